/**
 * Starts a node, and prints its address and a link that pairs a device with the cluster. The variables say where the
 * database is, which key the secrets have, and what the address of the proxy is.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { AuthPolicy, BootstrapCredentialService, PairingUrl } from "@sallyport/core"
import { Config, Console, Effect, Layer, Redacted } from "effect"
import { HttpServer } from "effect/http"
import * as Node from "./Node.ts"

const announce = Effect.gen(function*() {
  const own = HttpServer.formatAddress((yield* HttpServer.HttpServer).address)
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const { publicUrl } = yield* AuthPolicy.AuthPolicy
  const { code } = yield* bootstrap.issue({ issuedBy: "operator", scopes: "all" })
  const url = yield* Effect.fromResult(PairingUrl.make(publicUrl?.href ?? own, code))
  yield* Console.log(`Node ${process.pid} serves ${own}\nPair with ${Redacted.value(url)}`)
})

const main = Layer.unwrap(Effect.gen(function*() {
  const port = yield* Config.Int("PORT").pipe(Config.withDefault(4601))
  return Layer.effectDiscard(announce).pipe(Layer.provide(Node.layer({ port })))
}))

Layer.launch(main).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
