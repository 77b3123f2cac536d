import { assert, it } from "@effect/vitest"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/** A whole number in a step, small so that steps get in each other's way. */
export const small = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

/**
 * Declares that an adapter makes of any sequence of steps what the memory adapter does, in its answers and in the feed if
 * it keeps one. A failure names the operation whose doc comment says what was expected, and the steps that led to it.
 */
export const testAgainstMemory = <R, Step extends { readonly _tag: string }, LE>(options: {
  readonly port: string
  readonly steps: Schema.Codec<ReadonlyArray<Step>, unknown>
  readonly run: (step: Step) => Effect.Effect<unknown, RepositoryError, R>
  readonly feed?: Effect.Effect<unknown, RepositoryError, R> | undefined
  readonly layer: Layer.Layer<R, LE>
  readonly layerMemory: Layer.Layer<R>
}): void => {
  const { layer, layerMemory: memory, port } = options
  const play = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
    const answers = yield* Effect.forEach(
      steps,
      (step) => options.run(step).pipe(Effect.catch((error) => Effect.succeed(`failed in ${error.operation}`)))
    )
    return { answers, events: yield* options.feed ?? Effect.void }
  })
  it.live.prop(
    `answers any sequence of steps as the memory adapter does${
      options.feed === undefined ? "" : ", and keeps the same feed"
    }`,
    [options.steps],
    ([steps]) =>
      Effect.gen(function*() {
        const found = yield* Effect.provide(play(steps), layer, { local: true })
        const expected = yield* Effect.provide(play(steps), memory, { local: true })
        const lines = steps.map((step) => JSON.stringify(step))
        steps.forEach((step, index) => {
          assert.deepStrictEqual(
            found.answers[index],
            expected.answers[index],
            `${port}.${step._tag} does not answer as its contract says. The last of these steps:\n` +
              `${lines.slice(0, index + 1).join("\n")}\n`
          )
        })
        assert.deepStrictEqual(
          found.events,
          expected.events,
          `${port} answers as its contract says, but does not append to the access feed what it says, after these ` +
            `steps:\n${lines.join("\n")}\n`
        )
      }),
    { arbitrary: { runs: 10 } }
  )
}
