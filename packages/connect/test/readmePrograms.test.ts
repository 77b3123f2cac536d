import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert } from "@effect/vitest"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as RelayEnvironmentRepository from "@sallyport/connect/RelayEnvironmentRepository"
import * as RelayProofRepository from "@sallyport/connect/RelayProofRepository"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Repositories from "@sallyport/core/Repositories"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { createServer } from "node:http"
import { type Driver, load, suite } from "../../../test-support/readmes.ts"

const Services = Layer.mergeAll(
  BootstrapCredentialService.layer,
  ConnectClientStore.layer,
  DpopProof.layer,
  EnvironmentConnector.layer,
  SessionCredentialService.layer
).pipe(
  Layer.provideMerge(Layer.mergeAll(
    AuthPolicy.layer({ host: "127.0.0.1" }),
    RelayEnvironmentRepository.layerMemory,
    RelayProofRepository.layerMemory,
    Repositories.layerMemory,
    SecretStore.layerMemory
  )),
  Layer.provideMerge(NodeCrypto.layer),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
)

type Routes = Layer.Layer<never, never, HttpRouter.HttpRouter | Layer.Success<typeof Services>>

const routes: Driver = Effect.fnUntraced(function*(program) {
  const { EnvironmentRoutes, RelayRoutes } = yield* load<Record<"EnvironmentRoutes" | "RelayRoutes", Routes>>(program)
  const server = yield* Layer.build(
    HttpRouter.serve(Layer.merge(RelayRoutes, EnvironmentRoutes), { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provideMerge(Services)
    )
  )
  const { address } = yield* Effect.provide(HttpServer.HttpServer, server)
  const { token } = yield* Effect.provide(
    SessionCredentialService.SessionCredentialService.use((sessions) =>
      sessions.issue({ subject: "ada", scopes: ["connect:manage"], method: "bearer-access-token" })
    ),
    server
  )
  const answer = (method: string, path: string) =>
    Effect.promise(async () => {
      const response = await fetch(HttpServer.formatAddress(address) + path, {
        method,
        headers: { authorization: `Bearer ${Redacted.value(token)}`, connection: "close" }
      })
      return `${response.status} ${await response.text()}`
    })
  assert.strictEqual(yield* answer("GET", "/api/relay/environments"), "200 {\"environments\":[]}")
  assert.match(yield* answer("POST", "/api/connect/health"), /^400 .*"InvalidRequest"/)
})

suite("packages/connect/README.md", routes)
