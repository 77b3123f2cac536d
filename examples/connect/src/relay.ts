/**
 * Runs a relay: `node src/relay.ts <state directory> <port>`.
 *
 * It prints one line of JSON with its address and two one-time codes of the account "ada": one to link an environment
 * with, one for a client to sign in with. A real relay has its own sign-in pages, and issues such codes to accounts.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as RelayHandlers from "@sallyport/connect/RelayHandlers"
import { RelayApi } from "@sallyport/contract/ConnectProtocol"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { SessionGroup } from "@sallyport/contract/SessionGroup"
import type * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as RelayProofRepository from "@sallyport/connect/RelayProofRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import * as SessionHandlers from "@sallyport/http/SessionHandlers"
import * as SqlRelayEnvironmentRepository from "@sallyport/connect/SqlRelayEnvironmentRepository"
import * as SqlRelayProofRepository from "@sallyport/connect/SqlRelayProofRepository"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { createServer } from "node:http"
import { join } from "node:path"

const [directory = "./relay-state", port = "4600"] = process.argv.slice(2)

/** A relay needs only the sign-in of Sallyport's own surface; an API of the same name takes its handlers. */
const SignInApi = HttpApi.make(SallyportApi.identifier).add(SessionGroup)

const routes = Layer.mergeAll(
  Layer.provide(HttpApiBuilder.layer(SignInApi), SessionHandlers.layer),
  Layer.provide(HttpApiBuilder.layer(RelayApi), RelayHandlers.layer)
).pipe(Layer.provide([Authentication.layer, Authentication.layerRequestErrors()]))

const announce = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const code = (scopes: ReadonlyArray<AccessScope.AccessScope>) =>
    Effect.map(
      bootstrap.issue({ issuedBy: "operator", subject: "ada", scopes, kind: "machine", lifetime: "1 hour" }),
      (issued) => Redacted.value(issued.code)
    )
  yield* Console.log(
    JSON.stringify({
      url: HttpServer.formatAddress(address),
      linkCode: yield* code(["connect:manage"]),
      // A client connects, and may not change the account's environments.
      clientCode: yield* code([])
    })
  )
})

const database = Layer.unwrap(Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(directory, { recursive: true, mode: 0o700 })
  return SqliteClient.layer({ filename: join(directory, "relay.db") })
}))

const relay = HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
  Layer.merge(Layer.effectDiscard(announce)),
  Layer.provide(Layer.mergeAll(
    BootstrapCredentialService.layer,
    SessionCredentialService.layer,
    DpopProof.layer,
    // The environment of this example is on the same machine. A relay with untrusted accounts must not send requests there.
    EnvironmentConnector.layerWith({ loopbackEnvironments: true })
  )),
  Layer.provide([
    SqlRepositories.layer,
    SqlRelayEnvironmentRepository.layer,
    Layer.provideMerge(RelayProofRepository.layerSweeper(), SqlRelayProofRepository.layer),
    SecretStore.layerFileSystem(join(directory, "secrets")),
    AuthPolicy.layer({ host: "127.0.0.1" })
  ]),
  Layer.provide(database),
  Layer.provide([
    NodeHttpServer.layer(() => createServer(), { host: "127.0.0.1", port: Number(port) }),
    NodeCrypto.layer,
    NodeServices.layer
  ])
)

NodeRuntime.runMain(Layer.launch(relay))
