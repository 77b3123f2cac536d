/** Starts the server and prints the address that pairs the first browser. With the port 0 the system chooses one. */
import { NodeRuntime } from "@effect/platform-node"
import { BootstrapCredentialService, PairingUrl } from "@sallyport/core"
import { Config, Console, Effect, Layer, Redacted } from "effect"
import { HttpServer } from "effect/http"
import { fileURLToPath } from "node:url"
import * as Model from "./Model.ts"
import * as Server from "./Server.ts"

const files = fileURLToPath(new URL("../dist", import.meta.url))

// As slow as a model that thinks.
const model = Model.make(() => new Promise((resolve) => setTimeout(resolve, 150)))

const announce = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const { code } = yield* bootstrap.issue({ issuedBy: "operator", scopes: "all" })
  const url = yield* Effect.fromResult(PairingUrl.make(HttpServer.formatAddress(address), code))
  yield* Console.log(`Open ${Redacted.value(url)} to pair.`)
})

const main = Layer.unwrap(
  Config.Int("PORT").pipe(
    Config.withDefault(4594),
    Effect.map((port) => Layer.effectDiscard(announce).pipe(Layer.provide(Server.layer({ files, model, port }))))
  )
)

Layer.launch(main).pipe(NodeRuntime.runMain)
