/** Starts the server and prints where the tools are, and a code that lets the first person in. The port 0 is any free one. */
import { NodeRuntime } from "@effect/platform-node"
import { BootstrapCredentialService, ClientDocuments, PairingUrl } from "@sallyport/core"
import { PublicHttp } from "@sallyport/node"
import { Config, Console, Effect, Layer, Redacted } from "effect"
import { HttpServer } from "effect/http"
import * as Scopes from "./Scopes.ts"
import * as Server from "./Server.ts"

const announce = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const base = HttpServer.formatAddress(address)
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const { code } = yield* bootstrap.issue({ issuedBy: "operator", scopes: "all" })
  const url = yield* Effect.fromResult(PairingUrl.make(base, code))
  yield* Console.log(`The tools are at ${base}/mcp. Open ${Redacted.value(url)} to pair the browser that will consent.`)
})

/** Reads documents at public addresses only: anyone can name one. */
const documents = Layer.provide(ClientDocuments.layer, PublicHttp.layer)

const main = Layer.unwrap(
  Config.Int("PORT").pipe(
    Config.withDefault(4595),
    Effect.map((port) =>
      Layer.effectDiscard(announce).pipe(Layer.provide(Server.layer({ documents, port })), Layer.provide(Scopes.layer))
    )
  )
)

Layer.launch(main).pipe(NodeRuntime.runMain)
