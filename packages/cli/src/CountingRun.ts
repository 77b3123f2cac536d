/**
 * The demonstration run: it counts, slowly, so that a person can leave it and join it again.
 */
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/**
 * Describes what a client may ask of the run; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export const Input = Schema.Struct({
  /** How far to count: 1 to 10,000. */
  to: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10_000 })).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(30))
  ),
  /** How long to wait before each number, in milliseconds: 0 to 60,000. */
  everyMillis: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60_000 })).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(1_000))
  )
})

/**
 * Provides the run: an event `{ count }` for each number, and the last one as its result.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RunProgram.RunProgram> = RunProgram.layer(
  Effect.fnUntraced(function*({ input, run }) {
    const { everyMillis, to } = yield* Schema.decodeUnknownEffect(Input)(input)
    for (let count = 1; count <= to; count++) {
      yield* Effect.sleep(everyMillis)
      yield* run.append({ count })
    }
    return { counted: to }
  })
)
