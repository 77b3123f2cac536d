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

const findingsOf = (events: ReadonlyArray<Run.RunEvent>) =>
  events.flatMap(({ data }) =>
    Option.toArray(Option.filter(fromJson(data), (event): event is Finding => event._tag === "Finding"))
  )

/** Returns the findings of the tool in the run that this one continues, if any: the log is the agent's memory. */
const findingsBefore = Effect.fnUntraced(function*({ metadata, owner }: Run.Run) {
  const continued = Option.flatMap(
    Run.continuationOf(metadata),
    ({ attemptedRunIds }) => Option.fromUndefinedOr(attemptedRunIds.at(-1))
  )
  if (Option.isNone(continued)) return []
  const log = yield* RunEventLog.RunEventLog
  return findingsOf(yield* Stream.runCollect(yield* log.events({ runId: continued.value, owner })))
})

const execute = Effect.fnUntraced(function*(
  { input, run: { append, ask, history, run } }: Omit<RunProgram.RunProgramRequest, "session">
) {
  const { release } = yield* Schema.decodeUnknownEffect(Input)(input)
  const emit = (event: AgentEvent) => append(AgentEvent.make(event))

  // What another process has done in this run, if it has gone and this one goes on; what is there is not done again.
  const done = yield* Stream.runCollect(history)
  const known = findingsOf(done).length
  const texts = done.filter(({ data }) => Option.exists(fromJson(data), ({ _tag }) => _tag === "Text")).length

  const before = yield* findingsBefore(run)
  if (texts === 0) yield* emit({ _tag: "Text", text: `I look at what has changed since release ${release}.` })
  for (const finding of before.slice(known)) yield* emit({ ...finding, reused: true })

  const first = Math.max(before.length, known)
  const found = yield* (yield* Changes).after(first).pipe(
    Stream.tap(({ number, of, summary }) => emit({ _tag: "Finding", change: number, of, summary, reused: false })),
    Stream.runCount
  )
  const count = first + found
  const approved = (yield* ask("publish", {
    text: `Shall I publish release notes with ${count} changes?`,
    choices: [true, false]
  })) === true
  if (texts < 2) {
    yield* emit({ _tag: "Text", text: approved ? "The release notes are published." : "I have published nothing." })
  }
  return { published: approved, changes: count }
})

/** Provides the program that `POST /api/runs` executes. A run ends with its process; another run may continue it. */
export const layer = RunProgram.layer(execute)

/** Provides the same program, for several processes on one database: another one goes on with the runs of one that has gone. */
export const layerResumable = RunProgram.layerResumable(execute)
