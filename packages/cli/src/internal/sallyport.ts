/** Puts the commands together, and runs a command line. */
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import { connect } from "../Connect.ts"
import { credentials } from "../Credentials.ts"
import { doctor } from "../Doctor.ts"
import { exitCodes } from "../ExitCode.ts"
import { feed } from "../Feed.ts"
import * as Links from "../Links.ts"
import { runs } from "../Runs.ts"
import { secrets } from "../Secrets.ts"
import { serve } from "../Serve.ts"
import { sessions } from "../Sessions.ts"
import { status } from "../Status.ts"
import { completionsOf } from "./completions.ts"
import { describeFailure } from "./describeFailure.ts"
import { codeOf } from "./failures.ts"
import * as Help from "./help.ts"
import * as ThumbprintArguments from "./thumbprintArguments.ts"

const sallyport = Command.make("sallyport").pipe(
  Command.withDescription("Pairing, sessions and resumable runs, as a server to try and to learn from"),
  Command.withSubcommands([
    serve,
    status,
    doctor,
    Links.pair,
    Links.links,
    sessions,
    connect,
    credentials,
    secrets,
    runs,
    feed,
    completionsOf((): Command.Command.Any => sallyport)
  ])
)

const runCommand = Command.runWith(sallyport, { version: "0.1.0" })

/** Runs a command line. What it fails with, and what it logs, is told on standard error; standard output is for programs. */
export const run = (args: ReadonlyArray<string>) =>
  runCommand(ThumbprintArguments.separate(args)).pipe(
    Effect.tapCause((cause) => {
      const sentence = describeFailure(cause)
      return sentence === undefined ? Effect.void : Console.error(`sallyport: ${sentence}`)
    }),
    Effect.provide([Help.layer, Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])]),
    // A command says itself what it did; a server has its log for that. --log-level changes either.
    Effect.provideService(References.MinimumLogLevel, args[0] === serve.name ? "Info" : "Warn")
  )

/** Returns the exit code of a command line that has ended. A server that a signal stops has not failed. */
export const exitCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return 0
  const failed = exit.cause.reasons.find(Cause.isFailReason)
  return failed === undefined ? 1 : exitCodes[codeOf(failed.error)]
}
