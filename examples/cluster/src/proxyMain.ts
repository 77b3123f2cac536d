/** Starts the proxy before the nodes that the arguments name. */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect } from "effect"
import * as Proxy from "./Proxy.ts"

const main = Effect.gen(function*() {
  const port = yield* Config.Int("PORT").pipe(Config.withDefault(4600))
  const url = yield* Proxy.start({ nodes: process.argv.slice(2), port })
  yield* Console.log(`The proxy serves ${url}`)
  return yield* Effect.never
})

NodeRuntime.runMain(Effect.scoped(main))
