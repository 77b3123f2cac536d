import { assert, describe, it } from "@effect/vitest"
import * as ResumableStream from "@sallyport/interop/ResumableStream"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import type { ResumableStreamContext } from "resumable-stream/generic"
import { slowly } from "./support.ts"

const owner = { subject: "someone" }

const textOf = async (stream: ReadableStream<string> | null | undefined): Promise<string> => {
  let text = ""
  for await (const piece of stream ?? []) text += piece
  return text
}

const streamOf = (texts: ReadonlyArray<string>, end: () => Promise<void> = async () => {}) => () =>
  new ReadableStream<string>({
    start: async (controller) => {
      for (const text of texts) {
        controller.enqueue(text)
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      await end().then(() => controller.close(), (error) => controller.error(error))
    }
  })

describe("ResumableStream", () => {
  it.live("C-70: each reader has the same characters, wherever it goes on and however slow the store is", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.string({ unit: "grapheme", maxLength: 8 }), { maxLength: 12 }),
          fc.array(fc.nat(40), { minLength: 1, maxLength: 4 }),
          fc.constantFrom(0, 3, 10),
          (texts, skips, delayMillis) =>
            Effect.runPromise(
              Effect.gen(function*() {
                const context: ResumableStreamContext = yield* ResumableStream.make({ owner })
                const text = texts.join("")
                let made = 0
                let resolve = () => {}
                const promise = new Promise<void>((done) => {
                  resolve = done
                })
                const make = () => {
                  made++
                  return streamOf(texts, () => promise)()
                }
                const read = yield* Effect.promise(async () => {
                  const first = await context.resumableStream("stream", make)
                  const others = await Promise.all(skips.map((skip, index) =>
                    index % 2 === 0
                      ? context.resumableStream("stream", make, skip)
                      : context.resumeExistingStream("stream", skip)
                  ))
                  assert.strictEqual(await context.hasExistingStream("stream"), true)
                  // A reader that leaves takes nothing from the others.
                  await (await context.resumeExistingStream("stream"))?.cancel()
                  resolve()
                  return await Promise.all([first, ...others].map(textOf))
                })
                assert.deepStrictEqual(read, [text, ...skips.map((skip) => text.slice(skip))])
                assert.strictEqual(made, 1)
                yield* Effect.promise(async () => {
                  assert.isNull(await context.resumableStream("stream", make))
                  assert.isNull(await context.resumeExistingStream("stream"))
                  assert.strictEqual(await context.hasExistingStream("stream"), "DONE")
                })
              }).pipe(Effect.provide(slowly(delayMillis)))
            )
        ),
        { numRuns: 40 }
      )
    ))

  it.live("RUN-18 RUN-07: a stream is unknown to another owner; one that fails fails for its readers; a large chunk is kept whole", () =>
    Effect.gen(function*() {
      const context = yield* ResumableStream.make({ owner })
      const other = yield* ResumableStream.make({ owner: { subject: "another" } })
      const large = `${"x".repeat(128 * 1024 - 1)}${"\u{1F680}".repeat(400_000)}`
      yield* Effect.promise(async () => {
        const stream = await context.createNewResumableStream("large", streamOf([large]))
        assert.isNull(await other.hasExistingStream("large"))
        assert.isUndefined(await other.resumeExistingStream("large"))
        assert.isTrue((await textOf(stream)) === large)
        const failing = await context.resumableStream(
          "broken",
          streamOf(["some"], () => Promise.reject(new Error("broken")))
        )
        const error = await textOf(failing).then(() => undefined, (error: unknown) => error)
        assert.match(String(error), /broken/)
        assert.strictEqual(await context.hasExistingStream("broken"), "DONE")
      })
    }).pipe(Effect.provide(slowly(0))))
})
