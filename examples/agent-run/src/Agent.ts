/**
 * Implements the agent: it says what it will do, calls a slow tool, asks for an approval, and answers.
 *
 * There is no model behind it, but it runs like one: it takes long, reports in parts, and costs too much to run twice.
 */
import { Run, RunEventLog } from "@sallyport/core"
import { RunProgram } from "@sallyport/http"
import { Effect, Option, Schema, Stream } from "effect"
import { AgentEvent, type Finding, fromJson } from "./AgentEvent.ts"
import { Changes } from "./Changes.ts"

const Input = Schema.Struct({ release: Schema.NonEmptyString })

/** Returns the findings of the tool in the run that this one continues, if any: the log is the agent's memory. */
const findingsBefore = Effect.fnUntraced(function*({ metadata, owner }: Run.Run) {
  const continued = Option.flatMap(
    Run.continuationOf(metadata),
    ({ attemptedRunIds }) => Option.fromUndefinedOr(attemptedRunIds.at(-1))
  )
  if (Option.isNone(continued)) return []
  const log = yield* RunEventLog.RunEventLog
  const events = yield* Stream.runCollect(yield* log.events({ runId: continued.value, owner }))
  return events.flatMap(({ data }) =>
    Option.toArray(Option.filter(fromJson(data), (event): event is Finding => event._tag === "Finding"))
  )
})

/** Provides the program that `POST /api/runs` executes. */
export const layer = RunProgram.layer(Effect.fnUntraced(function*({ input, run: { append, ask, run } }) {
  const { release } = yield* Schema.decodeUnknownEffect(Input)(input)
  const emit = (event: AgentEvent) => append(AgentEvent.make(event))

  const before = yield* findingsBefore(run)
  yield* emit({ _tag: "Text", text: `I look at what has changed since release ${release}.` })
  for (const finding of before) yield* emit({ ...finding, reused: true })

  const found = yield* (yield* Changes).after(before.length).pipe(
    Stream.tap(({ number, of, summary }) => emit({ _tag: "Finding", change: number, of, summary, reused: false })),
    Stream.runCount
  )
  const count = before.length + found
  const approved = (yield* ask("publish", `Shall I publish release notes with ${count} changes?`)) === true
  yield* emit({ _tag: "Text", text: approved ? "The release notes are published." : "I have published nothing." })
  return { published: approved, changes: count }
}))
