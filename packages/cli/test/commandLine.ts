/** Runs command lines of `sallyport` in the process of a test. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as TestConsole from "effect/testing/TestConsole"
import { exitCode, run } from "../src/internal/sallyport.ts"

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Options {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  /** Stops the command when it has printed so many lines. */
  readonly lines?: number
}

const textOf = (lines: ReadonlyArray<unknown>) => lines.map((line) => `${String(line)}\n`).join("")

/** Runs a command line to its end, without a terminal. */
export const commandLine = Effect.fnUntraced(function*(args: ReadonlyArray<string>, options: Options = {}) {
  const console = yield* TestConsole.make
  const { input = "", lines = Infinity } = options
  const enough = Effect.repeat(
    Effect.andThen(Effect.sleep("20 millis"), console.logLines),
    { until: (printed) => printed.length >= lines }
  )
  const exit = yield* Effect.raceFirst(Effect.exit(run(args)), Effect.exit(enough)).pipe(
    Effect.provide(Layer.merge(
      NodeServices.layer,
      Stdio.layerTest({ stdin: Stream.make(new TextEncoder().encode(input)) })
    )),
    Effect.provideService(Console.Console, console),
    Effect.provideService(
      ConfigProvider.ConfigProvider,
      ConfigProvider.fromEnvRecord({ ...options.env })
    )
  )
  const ended: Ended = {
    code: exitCode(exit),
    stdout: textOf(yield* console.logLines),
    stderr: textOf(yield* console.errorLines)
  }
  return ended
})
