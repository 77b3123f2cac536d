/**
 * Joins the deltas that a program writes within a few milliseconds, so that an answer that comes word by word is not an event a
 * word.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { joinDeltas } from "../Run.ts"
import type { RunWriter } from "./runCalls.ts"
import type { RunEventLogError } from "./runErrors.ts"

/** As much as this does not wait for the window. */
const maxWaiting = { bytes: 64 * 1024, events: 64 }

/** Makes a writer that holds deltas back for a time at most, and the step that stores the rest when its program has ended. */
export const make = Effect.fnUntraced(function*(options: {
  readonly writer: RunWriter
  readonly window: Duration.Duration
  readonly maxEventBytes: number
  /** Returns the size of an event, or why it cannot be one. */
  readonly check: (delta: Schema.Json) => Effect.Effect<number, RunEventLogError>
}): Effect.fn.Return<
  { readonly writer: RunWriter; readonly flush: Effect.Effect<void, RunEventLogError> },
  never,
  Scope.Scope
> {
  const { check, maxEventBytes, window, writer } = options
  const scope = yield* Effect.scope
  const turns = Semaphore.makeUnsafe(1)
  let waiting: Array<{ readonly delta: Schema.Json; readonly bytes: number }> = []
  let isTimed = false
  let failure: RunEventLogError | undefined

  // What was taken is stored also if its caller, or the run, is interrupted meanwhile.
  const flush: Effect.Effect<void, RunEventLogError> = Effect.uninterruptible(turns.withPermit(Effect.suspend(() => {
    // What is lost is missed by everything that follows.
    if (failure !== undefined) return Effect.fail(failure)
    if (waiting.length === 0) return Effect.void
    const taken = waiting
    waiting = []
    return Effect.asVoid(
      Effect.tapError(writer.appendAll(taken.map(({ delta }) => delta)), (error) =>
        Effect.sync(() => {
          failure = error
        }))
    )
  })))
  const timed = Effect.sleep(window).pipe(
    Effect.andThen(Effect.suspend(() => {
      isTimed = false
      return Effect.ignore(flush)
    })),
    Effect.withTracerEnabled(false)
  )

  const appendDelta = Effect.fnUntraced(function*(delta: Schema.Json) {
    const bytes = yield* check(delta)
    if (failure !== undefined) return yield* Effect.fail(failure)
    const last = waiting.at(-1)
    const joined = last === undefined || last.bytes + bytes > maxEventBytes
      ? Option.none()
      : Option.map(joinDeltas(last.delta, delta), (delta) => ({ delta, bytes: last.bytes + bytes }))
    if (Option.isSome(joined)) waiting[waiting.length - 1] = joined.value
    else waiting.push({ delta, bytes })
    const waitingBytes = waiting.reduce((sum, { bytes }) => sum + bytes, 0)
    if (waiting.length >= maxWaiting.events || waitingBytes >= maxWaiting.bytes) return yield* flush
    if (isTimed) return
    isTimed = true
    yield* Effect.forkIn(timed, scope)
  })

  return {
    flush,
    writer: {
      ...writer,
      appendDelta,
      append: (data) => Effect.andThen(flush, writer.append(data)),
      appendAll: (events) => Effect.andThen(flush, writer.appendAll(events)),
      ask: (name, question) => Effect.andThen(flush, writer.ask(name, question))
    }
  }
})
