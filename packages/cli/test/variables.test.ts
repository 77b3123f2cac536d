import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as RelayEnvironmentRepository from "@sallyport/connect/RelayEnvironmentRepository"
import * as RelayKeyRotation from "@sallyport/connect/RelayKeyRotation"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as AuthorizationServer from "@sallyport/core/access/AuthorizationServer"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as DeviceAuthorization from "@sallyport/core/connect/DeviceAuthorization"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as PgWakeUps from "@sallyport/pg/PgWakeUps"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Programs from "../../../test-support/programs.ts"
import * as Variables from "../../../test-support/variables.ts"

const key = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"

const keys = SecretKeys.layerKeys({ active: Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => index)) })

const Platform = Layer.mergeAll(NodeServices.layer, NodeCrypto.layer)

const Services = Layer.mergeAll(
  Repositories.layerMemory,
  RelayEnvironmentRepository.layerMemory,
  SecretStore.layerMemory,
  CredentialRequirements.layer([]),
  OrgMembership.layerNone,
  keys
).pipe(Layer.provideMerge(Platform))

describe("docs/mounting.md", () => {
  const connector = Layer.provide(EnvironmentConnector.layer, Services)
  const layers = {
    AuthPolicy: AuthPolicy.layerConfig,
    SessionCredentialService: Layer.provide(SessionCredentialService.layerConfig, Services),
    BootstrapCredentialService: Layer.provide(BootstrapCredentialService.layerConfig, Services),
    DpopProof: Layer.provide(DpopProof.layerConfig, Services),
    ConnectClientStore: Layer.provide(ConnectClientStore.layerConfig, Services),
    DeviceAuthorization: Layer.provide(
      DeviceAuthorization.layerConfig,
      Layer.provideMerge(ConnectClientStore.layer, Services)
    ),
    CredentialScopeResolver: Layer.provide(CredentialScopeResolver.layerConfig, Services),
    AuthorizationServer: AuthorizationServer.layerConfig.pipe(
      Layer.provide(SessionCredentialService.layer),
      Layer.provide(Services),
      Layer.provide(AuthPolicy.layer({ host: "127.0.0.1" }))
    ),
    ConnectionEnd: ConnectionEnd.layerConfig,
    RunEventLog: Layer.provide(RunEventLog.layerConfig, Services),
    AccessFeed: Layer.provide(AccessFeed.layerConfig, Services),
    SecretStore: Layer.provide(SecretStore.layerConfig, Platform),
    EncryptedSecretStore: Layer.provide(EncryptedSecretStore.layerConfig, Services),
    SecretKeys: Layer.provide(SecretKeys.layerConfig(), Platform),
    SqliteClient: SqliteClient.layerConfig(SqliteClient.config),
    PgDatabase: PgDatabase.layerConfig,
    // `PgRepositories.layerConfig` is these and the repositories, which need a database.
    PgRepositories: Layer.provide(
      PgWakeUps.layerConfig,
      PgDatabase.layer({ url: Redacted.make("postgres://127.0.0.1:1/nowhere") })
    ),
    EnvironmentConnector: Layer.provide(EnvironmentConnector.layerConfig, Services),
    RelayKeyRotation: Layer.provide(RelayKeyRotation.layerConfig, [connector, Services])
  }

  for (const [module, layer] of Object.entries<Layer.Layer<never, unknown>>(layers)) {
    it.effect(`lists the variables that ${module}.layerConfig reads, and no others`, () =>
      Effect.gen(function*() {
        const directory = yield* Programs.temporaryDirectory
        const looked = yield* Variables.lookedFor(Layer.build(Layer.fresh(layer)), {
          SALLYPORT_SECRETS_DIRECTORY: `${directory}/secrets`,
          SALLYPORT_SECRETS_STORE_ID: "test",
          SALLYPORT_SECRET_KEY: key,
          SALLYPORT_SQLITE_FILENAME: ":memory:",
          SALLYPORT_DATABASE_URL: "postgres://127.0.0.1:1/nowhere"
        })
        assert.deepStrictEqual(looked, Variables.documented(module))
      }))
  }
})
