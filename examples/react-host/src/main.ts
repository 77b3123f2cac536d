/** Starts the server and prints the address that pairs the first browser. With the port 0 the system chooses one. */
import { NodeRuntime } from "@effect/platform-node"
import { BootstrapCredentialService, PairingUrl } from "@sallyport/core"
import { Config, Console, Effect, Layer, Redacted } from "effect"
import { HttpServer } from "effect/http"
import { fileURLToPath } from "node:url"
import * as Server from "./Server.ts"

const files = fileURLToPath(new URL("../dist", import.meta.url))

const announce = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const { code } = yield* bootstrap.issue({ issuedBy: "operator", scopes: "all" })
  const url = yield* Effect.fromResult(PairingUrl.make(HttpServer.formatAddress(address), code))
  yield* Console.log(`Open ${Redacted.value(url)} to pair.`)
})

const main = Layer.unwrap(
  Config.Int("PORT").pipe(
    Config.withDefault(4593),
    Effect.map((port) => Layer.effectDiscard(announce).pipe(Layer.provide(Server.layer({ files, port }))))
  )
)

Layer.launch(main).pipe(NodeRuntime.runMain)
