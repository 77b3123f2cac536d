import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Runs from "@sallyport/client/Runs"
import { collect, connect, having, network, start, storages } from "./support.ts"
import type { RunProgramRequest } from "@sallyport/http/RunProgram"

/** Numbers that look random and are the same each time. */
const randomFrom = (seed: number) => () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return seed / 2 ** 32
}

const texts = ["", "a", "é", "线", "😀 two\nlines", "data: x\n\nid: 9\r", "x".repeat(700), "\u2028\u0000"]

const eventsOfRun = 60
const dataOf = (run: number, n: number) => ({ n, text: texts[(n + run) % texts.length] ?? "" })

/** Writes some events at once and others one by one, so that a cut falls into what is stored and into what comes. */
const program = ({ input, run }: RunProgramRequest) =>
  Effect.gen(function*() {
    for (let n = 1; n <= eventsOfRun; n++) {
      yield* run.append(dataOf(Number(input), n))
      if (n > eventsOfRun / 3) yield* Effect.sleep("2 millis")
    }
    return eventsOfRun
  })

describe("following a run", () => {
  for (const [name, storage] of Object.entries(storages)) {
    it.live(
      `RUN-08 L-83: survives cuts at 600 random bytes, and every event comes once and in order (${name})`,
      () =>
        Effect.gen(function*() {
          const server = yield* start({ program, storage })
          const token = yield* server.token()
          const wanted = 600
          let total = 0
          let run = 0
          const reader = Effect.fnUntraced(function*(seed: number) {
            const random = randomFrom(seed)
            while (total < wanted) {
              const id = ++run
              // About 350 bytes of an answer are its head, so that some cuts fall into that.
              const wire = yield* network(server.port, () => ({ answerBytes: 1 + Math.floor(random() * 1_200) }))
              const { runs } = yield* connect(wire.url, having(token), {
                baseDelay: "1 millis",
                maxDelay: "1 millis",
                maxAttempts: 200
              })
              const intent = yield* runs.intent({ threadId: `thread ${id}`, input: id })
              const { error, events } = yield* collect(runs.run(intent))
              assert.isUndefined(error, `${error?.message} (seed ${seed})`)
              assert.deepStrictEqual(
                events.map((event) => [event.cursor, event._tag === "Data" ? event.data : event.end]),
                [
                  ...Array.from({ length: eventsOfRun }, (_, index) => [index + 1, dataOf(id, index + 1)]),
                  [Option.some(eventsOfRun + 1), { status: "succeeded", result: eventsOfRun }]
                ],
                `seed ${seed}`
              )
              // However often the start was cut, one run was started.
              assert.strictEqual(new Set(events.map((event: Runs.RunEvent) => event.runId)).size, 1)
              total += wire.cuts()
            }
          }, Effect.scoped)
          yield* Effect.all([1, 2, 3, 4, 5, 6, 7, 8].map(reader), { concurrency: "unbounded" })
          assert.isAtLeast(total, wanted)
        }),
      300_000
    )
  }
})
