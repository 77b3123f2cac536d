/** Runs the command to its end. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import { exitCode, run } from "./sallyport.ts"

/** Runs the command with the arguments of the process, and ends the process. */
export const main = (): void => {
  // A terminal that is closed ends a server as properly as SIGTERM does.
  process.on("SIGHUP", () => process.emit("SIGTERM"))
  // One who asks again does not want to wait. npm passes on the signal of a terminal that the process has got already.
  const isImpatientAfterMillis = 500
  let askedAtMillis = Infinity
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    process.on(signal, () => {
      if (performance.now() - askedAtMillis > isImpatientAfterMillis) process.exit(code)
      askedAtMillis = Math.min(askedAtMillis, performance.now())
    })
  }

  Stdio.Stdio.use(({ args }) => Effect.flatMap(args, run)).pipe(
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      teardown: (exit, onExit) => onExit(exitCode(exit))
    })
  )
}
