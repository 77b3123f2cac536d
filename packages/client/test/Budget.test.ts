import { assert, describe, it } from "@effect/vitest"
import * as Runs from "@sallyport/client/Runs"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { having } from "./support.ts"

const runId = "01890a5d-ac96-774b-bcce-b302099a8057"

const stream = (text: string) => new Response(text, { headers: { "content-type": "text/event-stream" } })
const event = (id: number) => `id: ${id}\nevent: data\ndata: ${id}\n\n`
const unavailable = (headers: Record<string, string> = {}) => new Response(null, { status: 503, headers })

/** A client of a server in this process, on the clock of the test, and the times in seconds at which it was asked. */
const clientOf = Effect.fnUntraced(function*(
  answer: (nth: number) => Response | undefined,
  options: Runs.Options = {}
) {
  const times: Array<number> = []
  const http = HttpClient.make((request) =>
    Effect.gen(function*() {
      times.push((yield* Clock.currentTimeMillis) / 1000)
      const response = answer(times.length)
      return response === undefined ? yield* Effect.never : HttpClientResponse.fromWeb(request, response)
    })
  )
  const runs = yield* Layer.build(
    SallyportClient.layer({
      baseUrl: "http://server.test",
      credentials: having(Redacted.make("token")),
      runs: options
    }).pipe(Layer.provide([Layer.succeed(HttpClient.HttpClient, http), SecureRandom.layerWebCrypto]))
  )
  return { times, runs: yield* Effect.provide(Runs.Runs, runs) }
})

/** Lets time pass until a fiber is done. */
const passing = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.gen(function*() {
    while (fiber.pollUnsafe() === undefined) {
      yield* TestClock.withLive(Effect.sleep("1 millis"))
      yield* TestClock.adjust("100 millis")
    }
    return yield* Fiber.join(fiber)
  })

const follow = (runs: Runs.Runs["Service"]) =>
  Effect.flatMap(Effect.forkChild(Effect.flip(Stream.runDrain(runs.follow({ runId })))), passing)

const gaps = (times: ReadonlyArray<number>) => times.slice(1).map((time, index) => time - (times[index] ?? 0))

describe("waiting", () => {
  it.effect("L-85 doubles from attempt to attempt up to a limit, with up to half as much again at random", () =>
    Effect.gen(function*() {
      const all: Array<ReadonlyArray<number>> = []
      for (const seed of ["a", "b", "c"]) {
        const { runs, times } = yield* clientOf(() => unavailable(), {
          baseDelay: "1 second",
          maxDelay: "8 seconds",
          maxAttempts: 7,
          maxDuration: "10 minutes"
        })
        const error = yield* Random.withSeed(follow(runs), seed)
        assert.deepInclude(error.reason, { _tag: "Unreachable", attempts: 7, status: 503 })
        const waits = gaps(times)
        for (const [index, least] of [1, 2, 4, 8, 8, 8].entries()) {
          assert.isAtLeast(waits[index] ?? 0, least)
          // The clock goes in steps of a tenth of a second.
          assert.isAtMost(waits[index] ?? 0, least * 1.5 + 0.2)
        }
        all.push(waits)
      }
      assert.strictEqual(new Set(all.map((waits) => waits.join())).size, 3)
    }))

  it.effect("L-85 ends when the time is used up, however many attempts are left", () =>
    Effect.gen(function*() {
      const { runs, times } = yield* clientOf(() => unavailable(), {
        baseDelay: "1 second",
        maxDelay: "4 seconds",
        maxAttempts: 1_000,
        maxDuration: "30 seconds"
      })
      const error = yield* follow(runs)
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.isAtMost(times.at(-1) ?? 0, 30)
      assert.isAtLeast(times.at(-1) ?? 0, 20)
    }))

  it.effect("L-85 counts the time of attempts that never come to an end", () =>
    Effect.gen(function*() {
      const { runs, times } = yield* clientOf(() => undefined, {
        heartbeatInterval: "5 seconds",
        baseDelay: "1 millis",
        maxDelay: "1 millis",
        maxDuration: "35 seconds",
        maxAttempts: 1_000
      })
      const error = yield* follow(runs)
      assert.deepInclude(error.reason, { _tag: "Unreachable", failure: "stalled", attempts: 4 })
      assert.strictEqual(times.length, 4)
    }))

  it.effect("begins again with each event, so that a long run over a bad network is followed to its end", () =>
    Effect.gen(function*() {
      const { runs, times } = yield* clientOf((nth) => nth % 3 === 0 ? stream(event(nth / 3)) : unavailable(), {
        maxAttempts: 3,
        maxDuration: "10 seconds",
        baseDelay: "1 second"
      })
      const collecting = yield* Effect.forkChild(Stream.runCollect(Stream.take(runs.follow({ runId }), 20)))
      assert.strictEqual((yield* passing(collecting)).length, 20)
      assert.strictEqual(times.length, 60)
      assert.isAbove(times.at(-1) ?? 0, 60)
    }))

  it.effect("HTTP-04 is as long as the server's retry: asks for, at least", () =>
    Effect.gen(function*() {
      const { runs, times } = yield* clientOf(
        (nth) => nth <= 2 ? stream(`retry: 5000\n\n${event(nth)}`) : unavailable(),
        { maxAttempts: 2 }
      )
      const error = yield* follow(runs)
      assert.strictEqual(error.lastCursor, 2)
      for (const wait of gaps(times)) {
        assert.isAtLeast(wait, 5)
        assert.isAtMost(wait, 15.2)
      }
    }))

  it.effect("is as long as Retry-After asks for, and ends at once if that is longer than the budget", () =>
    Effect.gen(function*() {
      const patient = yield* clientOf(() => unavailable({ "retry-after": "20" }), { maxAttempts: 3 })
      yield* follow(patient.runs)
      const waits = gaps(patient.times)
      assert.strictEqual(waits.length, 2)
      for (const wait of waits) assert.isAtLeast(wait, 20)
      const hurried = yield* clientOf(() => unavailable({ "retry-after": "3600" }))
      const error = yield* follow(hurried.runs)
      assert.deepInclude(error.reason, { _tag: "Unreachable", attempts: 1 })
      assert.strictEqual(hurried.times.length, 1)
    }))

  it.effect("takes a connection that stays open for progress, though it brings heartbeats only", () =>
    Effect.gen(function*() {
      const heartbeat = new TextEncoder().encode(": heartbeat\n\n")
      const services = yield* Effect.context<never>()
      const { runs, times } = yield* clientOf((nth) =>
        nth > 10
          ? stream(`event: end\nid: 1\ndata: {"status":"succeeded"}\n\n`)
          : new Response(
            Stream.toReadableStreamWith(
              Stream.concat(
                Stream.make(heartbeat),
                Stream.fromEffect(Effect.as(Effect.sleep(Duration.seconds(16)), heartbeat))
              ),
              services
            ),
            { headers: { "content-type": "text/event-stream" } }
          ), { maxAttempts: 2, maxDuration: "20 seconds" })
      const collecting = yield* Effect.forkChild(Stream.runCollect(runs.follow({ runId })))
      assert.deepStrictEqual((yield* passing(collecting)).map(({ _tag }) => _tag), ["End"])
      assert.strictEqual(times.length, 11)
    }))
})
