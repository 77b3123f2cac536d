#!/usr/bin/env node
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import * as Stdio from "effect/Stdio"
import { connect } from "./Connect.ts"
import { credentials } from "./Credentials.ts"
import { completionsOf } from "./internal/completions.ts"
import { describeFailure } from "./internal/describeFailure.ts"
import { exitCodeOf } from "./internal/failures.ts"
import * as Help from "./internal/help.ts"
import * as ThumbprintArguments from "./internal/thumbprintArguments.ts"
import { feed } from "./Feed.ts"
import * as Links from "./Links.ts"
import { runs } from "./Runs.ts"
import { secrets } from "./Secrets.ts"
import { serve } from "./Serve.ts"
import { sessions } from "./Sessions.ts"
import * as Status from "./Status.ts"

const root = Command.make("sallyport").pipe(
  Command.withDescription("Pairing, sessions and resumable runs, as a server to try and to learn from")
)
const commands = [
  serve,
  Status.status,
  Status.doctor,
  Links.pair,
  Links.links,
  sessions,
  connect,
  credentials,
  secrets,
  runs,
  feed
] as const
const sallyport = root.pipe(
  Command.withSubcommands([...commands, completionsOf(Command.withSubcommands(root, commands))])
)

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

const run = Command.runWith(sallyport, { version: "0.1.0" })

Stdio.Stdio.use(({ args }) => Effect.flatMap(args, (given) => run(ThumbprintArguments.separate(given)))).pipe(
  Effect.tapCause((cause) => {
    const sentence = describeFailure(cause)
    return sentence === undefined ? Effect.void : Console.error(`sallyport: ${sentence}`)
  }),
  // Output for programs goes to standard output; messages for a person go to standard error.
  Effect.provide(Help.layer),
  Effect.provide([NodeServices.layer, Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])]),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    // A server that SIGTERM or SIGINT stops has not failed.
    teardown: (exit, onExit) => {
      if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) return onExit(0)
      const failed = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason) : undefined
      if (failed === undefined) return Runtime.defaultTeardown(exit, onExit)
      onExit(exitCodeOf(failed.error))
    }
  })
)
