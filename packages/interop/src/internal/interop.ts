import * as Input from "@sallyport/core/Input"
import { RunEnd } from "@sallyport/core/runs/Run"
import type { RunEventLogErrorReason } from "@sallyport/core/runs/RunEventLog"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/** Takes owners of runs and streams. */
export const ownerRule: Input.Rule = Input.required({
  is: (owner) => Predicate.hasProperty(owner, "subject") && Input.text.is(owner.subject),
  expected: "an owner: { subject }"
})

/** Completes when a signal aborts. */
const aborted = (signal: AbortSignal): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const done = () => resume(Effect.void)
    if (signal.aborted) return done()
    signal.addEventListener("abort", done, { once: true })
    return Effect.sync(() => signal.removeEventListener("abort", done))
  })

/** Turns a stream into an async iterable that ends, without an error, when a signal aborts. */
export const toAsyncIterable = <A, E>(
  stream: Stream.Stream<A, E>,
  context: Context.Context<never>,
  signal: AbortSignal | undefined
): AsyncIterable<A> =>
  Stream.toAsyncIterableWith(
    signal === undefined ? stream : Stream.interruptWhen(stream, aborted(signal)),
    context
  )

/** Returns the JSON form of a value, as the libraries' own stores do. Fails if it has none. */
export const toJson = (value: unknown): Effect.Effect<Schema.Json, TypeError> =>
  Effect.try({
    try: () => JSON.parse(JSON.stringify(value)),
    catch: (cause) => new TypeError("An event must be JSON to be stored", { cause })
  })

/** Reads the data of a terminal event. Anything else is a defect: the run log writes nothing else. */
export const endOf: (data: string) => RunEnd = Schema.decodeUnknownSync(Schema.fromJsonString(RunEnd))

/** Makes the key of a run that no other request asks for. */
export const newKey: Effect.Effect<string> = Effect.zipWith(Random.next, Random.next, (one, two) => `${one}/${two}`)

/** Returns the wire code of a reason, such as `run_not_found` or `cursor_expired`. */
export const codeOf = (reason: RunEventLogErrorReason): string =>
  reason._tag === "InvalidCursor"
    ? "malformed_cursor"
    : reason._tag === "StorageFailure"
    ? "unavailable"
    : reason._tag.replaceAll(/(?<=[a-z])[A-Z]/g, "_$&").toLowerCase()
