import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as Runs from "@sallyport/client/Runs"
import type { RunsError } from "@sallyport/client/RunsError"
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
      `RUN-08 L-83: survives cuts at 300 random bytes, and every event comes once and in order (${name})`,
      () =>
        Effect.gen(function*() {
          const server = yield* start({ program, storage })
          const token = yield* server.token()
          const wanted = 300
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

describe("following many runs", () => {
  for (const [name, storage] of Object.entries(storages)) {
    it.live(
      `RUN-23 L-83: survives cuts at random bytes, and every event of every run comes once and in order (${name})`,
      () =>
        Effect.gen(function*() {
          const server = yield* start({ program, storage })
          const token = yield* server.token()
          const random = randomFrom(7)
          const wire = yield* network(server.port, () => ({ answerBytes: 1 + Math.floor(random() * 3_000) }))
          const impatient = { baseDelay: "1 millis", maxDelay: "1 millis", maxAttempts: 1_000 } as const
          const { runs } = yield* connect(wire.url, having(token), impatient)
          const direct = yield* connect(`http://127.0.0.1:${server.port}`, having(token), impatient)
          const missing = yield* Effect.flip(Stream.runDrain(direct.runs.followThread({ threadId: "thread 0" })))
          assert.deepStrictEqual([missing.reason._tag, missing.lastRunsCursor], ["RunUnknown", undefined])
          const begin = (id: number) =>
            Effect.flatMap(
              direct.runs.intent({ threadId: `thread ${id % 3}`, input: id, whenBusy: "enqueue" }),
              (intent) => direct.runs.start(intent)
            )
          const first = yield* begin(0)
          const follow = (stream: Stream.Stream<Runs.FollowedEvent, RunsError>, ends: number) => {
            let left = ends
            return Effect.forkChild(
              Stream.runCollect(Stream.takeUntil(stream, ({ _tag }) => _tag === "End" && --left === 0)),
              { startImmediately: true }
            )
          }
          const readers = [
            yield* follow(runs.followAll(), 8),
            yield* follow(runs.followThread({ threadId: first.threadId }), 3)
          ]
          for (let id = 1; id < 8; id++) yield* begin(id)
          for (const [index, reader] of readers.entries()) {
            const seen = yield* Fiber.join(reader)
            const begun = seen.flatMap((event) => event._tag === "Run" ? [event.run] : [])
            assert.strictEqual(begun.length, index === 0 ? 8 : 3)
            for (const { runId } of begun) {
              const events = seen.flatMap((event) => event._tag !== "Run" && event.runId === runId ? [event] : [])
              assert.deepStrictEqual(
                events.map((event) => event._tag === "Data" ? event.seq : Option.getOrNull(event.seq)),
                Array.from({ length: eventsOfRun + 1 }, (_, index) => index + 1)
              )
            }
          }
          const { runId } = first
          yield* server.log.compact({ runId, events: [{ seq: 50, data: "50" }, { seq: eventsOfRun, data: "60" }] })
          const compacted = yield* collect(direct.runs.follow({ runId }))
          assert.isUndefined(compacted.error)
          assert.deepStrictEqual(compacted.events.map(({ cursor }) => cursor), [
            50,
            eventsOfRun,
            Option.some(eventsOfRun + 1)
          ])
          const within = yield* collect(direct.runs.follow({ runId, after: 20 }))
          assert.deepStrictEqual([within.events, within.error?.reason._tag], [[], "RunExpired"])
          const again = yield* direct.runs.followAll().pipe(Stream.take(4), Stream.runCollect)
          assert.deepStrictEqual(again.map((event) => event._tag === "Data" ? event.seq : event._tag), [
            "Run",
            50,
            eventsOfRun,
            "End"
          ])

          const open = yield* Deferred.make<void>()
          const options = { after: "latest", onConnection: () => Effect.asVoid(Deferred.succeed(open, undefined)) }
          const last = yield* Effect.forkChild(
            direct.runs.followAll(options).pipe(Stream.take(1), Stream.runCollect),
            { startImmediately: true }
          )
          yield* Deferred.await(open)
          const next = yield* begin(9)
          const [event] = yield* Fiber.join(last)
          assert.strictEqual(event?._tag === "Run" ? event.run.runId : "", next.runId)
          assert.isAtLeast(wire.cuts(), 50)
        }).pipe(Effect.scoped),
      120_000
    )
  }
})
