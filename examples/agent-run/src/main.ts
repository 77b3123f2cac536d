/**
 * Starts the server and prints the address that pairs the first browser. State is kept under `./agent-state`, or in the
 * PostgreSQL database of `SALLYPORT_DATABASE_URL`; with the port 0 the system chooses one.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { BootstrapCredentialService, PairingUrl } from "@sallyport/core"
import { Config, Console, Effect, FileSystem, Layer, Option, Redacted } from "effect"
import { HttpServer } from "effect/http"
import * as Server from "./Server.ts"

const announce = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const { code } = yield* bootstrap.issue({ issuedBy: "operator", scopes: "all" })
  const url = yield* Effect.fromResult(PairingUrl.make(HttpServer.formatAddress(address), code))
  yield* Console.log(`Open ${Redacted.value(url)} to pair.`)
})

const main = Layer.unwrap(Effect.gen(function*() {
  const directory = yield* Config.String("AGENT_STATE").pipe(Config.withDefault("./agent-state"))
  const port = yield* Config.Int("PORT").pipe(Config.withDefault(4592))
  const database = yield* Config.option(Config.Redacted("SALLYPORT_DATABASE_URL"))
  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(directory, { recursive: true, mode: 0o700 })
  return Layer.effectDiscard(announce).pipe(
    Layer.provide(Server.layer({ port, directory, shared: Option.isSome(database) }))
  )
}))

Layer.launch(main).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
