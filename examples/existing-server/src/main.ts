/**
 * Starts the server and prints the address that pairs the first browser. State is kept under `./notes-state`; with the port
 * 0 the system chooses one.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { BootstrapCredentialService, PairingUrl } from "@sallyport/core"
import { Config, Console, Effect, FileSystem, Layer, Redacted, Schema } from "effect"
import { HttpServer } from "effect/http"
import * as Scopes from "./Scopes.ts"
import * as Server from "./Server.ts"

// #region announce
const announce = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const { code } = yield* bootstrap.issue({ issuedBy: "operator", scopes: "all" })
  const url = yield* Effect.fromResult(PairingUrl.make(HttpServer.formatAddress(address), code))
  yield* Console.log(`Open ${Redacted.value(url)} to pair.`)
})
// #endregion announce

const Port = Schema.FiniteFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum: 65_535 }))

const main = Layer.unwrap(Effect.gen(function*() {
  const directory = yield* Config.String("NOTES_STATE").pipe(Config.withDefault("./notes-state"))
  const port = yield* Config.schema(Port, "PORT").pipe(Config.withDefault(4591))
  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(directory, { recursive: true, mode: 0o700 })
  return Layer.effectDiscard(announce).pipe(
    Layer.provide([Server.layer({ port, directory }), Scopes.layer])
  )
}))

Layer.launch(main).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
