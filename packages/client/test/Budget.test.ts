import { assert, describe, it } from "@effect/vitest"
import * as ReconnectHints from "@sallyport/client/ReconnectHints"
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
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
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
  options: Runs.Options = {},
  hints: Stream.Stream<ReconnectHints.Hint> = Stream.never
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
    }).pipe(Layer.provide([
      Layer.succeed(HttpClient.HttpClient, http),
      SecureRandom.layerWebCrypto,
      ReconnectHints.layer(hints)
    ]))
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

/** Lets the fibers do what they can, and then time pass. */
const pass = (duration: Duration.Input) =>
  Effect.andThen(TestClock.withLive(Effect.sleep("5 millis")), TestClock.adjust(duration))

const heartbeats = (every: Duration.Input) =>
  Effect.map(Effect.context<never>(), (services) =>
    new Response(
      Stream.toReadableStreamWith(
        Stream.map(Stream.fromSchedule(Schedule.spaced(every)), () => new TextEncoder().encode(": heartbeat\n\n")),
        services
      ),
      { headers: { "content-type": "text/event-stream" } }
    ))

const gaps = (times: ReadonlyArray<number>) => times.slice(1).map((time, index) => time - (times[index] ?? 0))

describe("waiting", () => {
  it.effect("L-85: is a random part of a bound that doubles from attempt to attempt up to a limit", () =>
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
        for (const [index, most] of [1, 2, 4, 8, 8, 8].entries()) {
          // The clock goes in steps of a tenth of a second.
          assert.isAtMost(waits[index] ?? 0, most + 0.2)
        }
        all.push(waits)
      }
      assert.strictEqual(new Set(all.map((waits) => waits.join())).size, 3)
    }))

  it.effect("L-85: spreads the clients of a server that was lost evenly over the bound, after Retry-After", () =>
    Effect.gen(function*() {
      for (const [retryAfter, least] of [[{}, 0], [{ "retry-after": "30" }, 30]] as const) {
        const { runs, times } = yield* clientOf(
          (nth) => nth <= 500 ? unavailable(retryAfter) : new Response(null, { status: 204 }),
          { baseDelay: "10 seconds", maxDelay: "10 seconds" }
        )
        const begin = (yield* Clock.currentTimeMillis) / 1000
        yield* Effect.gen(function*() {
          const all = yield* Effect.forEach(
            Array.from({ length: 500 }),
            () => Effect.forkChild(Effect.flip(Stream.runDrain(runs.follow({ runId }))))
          )
          for (let n = 0; n < 42; n++) yield* TestClock.adjust("1 second")
          yield* Fiber.awaitAll(all)
        }).pipe(Random.withSeed("clients"))
        assert.lengthOf(times, 1_000)
        const perSecond = Array.from(
          { length: 10 },
          (_, second) => times.slice(500).filter((time) => Math.ceil(time - begin - least) === second + 1).length
        )
        assert.strictEqual(perSecond.reduce((sum, n) => sum + n, 0), 500)
        for (const clients of perSecond) {
          assert.isAtLeast(clients, 25)
          assert.isAtMost(clients, 75)
        }
      }
    }))

  it.effect("L-85: of a client without options leaves a server that is back alone for 6 seconds at most", () =>
    Effect.gen(function*() {
      for (const seed of ["a", "b", "c"]) {
        for (const away of [2, 10, 20, 40, 60]) {
          const begin = (yield* Clock.currentTimeMillis) / 1000
          let now = begin
          const { runs, times } = yield* clientOf((nth) => {
            now = times[nth - 1] ?? now
            if (nth === 1) return stream(`retry: 1000\n\n${event(1)}`)
            return now - begin < away ? unavailable() : stream(`id: 2\nevent: end\ndata: {"status":"succeeded"}\n\n`)
          })
          const following = yield* Effect.forkChild(Stream.runCollect(runs.follow({ runId })))
          const events = yield* Random.withSeed(passing(following), seed)
          assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["Data", "End"])
          // The clock goes in steps of a tenth of a second.
          assert.isAtMost((times.at(-1) ?? Infinity) - begin - away, 6.2)
        }
      }
    }))

  it.effect("L-85: ends when the time is used up, however many attempts are left", () =>
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

  it.effect("L-85: counts the time of attempts that never come to an end", () =>
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
      assert.isAbove(times.at(-1) ?? 0, 20)
    }))

  it.effect("HTTP-04: is as long as the server's retry: asks for, at least", () =>
    Effect.gen(function*() {
      const { runs, times } = yield* clientOf(
        (nth) => nth <= 2 ? stream(`retry: 5000\n\n${event(nth)}`) : unavailable(),
        { maxAttempts: 2 }
      )
      const error = yield* follow(runs)
      assert.strictEqual(error.lastCursor, 2)
      for (const wait of gaps(times)) {
        assert.isAtLeast(wait, 5)
        assert.isAtMost(wait, 20.2)
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

describe("a hint of the device", () => {
  it.effect("L-85: ends a wait at once, but not the time of Retry-After, and uses up no attempt", () =>
    Effect.gen(function*() {
      const hints = yield* PubSub.unbounded<ReconnectHints.Hint>()
      let retryAfter = {}
      const { runs, times } = yield* clientOf(() => unavailable(retryAfter), {
        baseDelay: "10 minutes",
        maxDelay: "10 minutes",
        maxDuration: "1 day",
        maxAttempts: 3
      }, Stream.fromPubSub(hints))
      const failing = yield* Effect.forkChild(Effect.flip(Stream.runDrain(runs.follow({ runId }))))
      yield* pass(0)
      for (let n = 2; n <= 8; n++) {
        yield* pass("2 seconds")
        yield* PubSub.publish(hints, n % 2 === 0 ? "online" : "visible")
        yield* pass(0)
        assert.lengthOf(times, n)
      }
      retryAfter = { "retry-after": "60" }
      yield* pass("2 seconds")
      yield* PubSub.publish(hints, "online")
      yield* pass(0)
      assert.lengthOf(times, 9)
      yield* PubSub.publish(hints, "online")
      yield* pass("59 seconds")
      assert.lengthOf(times, 9)
      yield* pass("1 second")
      yield* pass(0)
      assert.lengthOf(times, 10)
      retryAfter = {}
      const error = yield* passing(failing)
      assert.deepInclude(error.reason, { _tag: "Unreachable", attempts: 3 })
    }).pipe(Random.withSeed("a hint")))

  it.effect("L-85: is bounded if hints never stop: one attempt a second, until the time is used up", () =>
    Effect.gen(function*() {
      const { runs, times } = yield* clientOf(
        () => unavailable(),
        { baseDelay: "1 minute", maxDelay: "1 minute", maxDuration: "2 minutes" },
        Stream.forever(Stream.make("online" as const, "visible" as const))
      )
      const error = yield* follow(runs)
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.isAtMost(times.at(-1) ?? 0, 121)
      // A few waits end by themselves before a second is over.
      assert.isAtMost(times.length, 130)
    }))

  it.effect("replaces an open connection when the device is online again, or visible after a long silence", () =>
    Effect.gen(function*() {
      const hints = yield* PubSub.unbounded<ReconnectHints.Hint>()
      const live = yield* heartbeats("15 seconds")
      const silent = yield* heartbeats("1 day")
      const next = yield* heartbeats("15 seconds")
      const opened: Array<boolean> = []
      const { runs, times } = yield* clientOf(
        (nth) => [live, silent, next][nth - 1],
        { baseDelay: "1 day", maxDelay: "1 day", maxDuration: "2 days" },
        Stream.fromPubSub(hints)
      )
      yield* Effect.forkChild(Stream.runDrain(
        runs.follow({ runId, onConnection: (isOpen) => Effect.sync(() => void opened.push(isOpen)) })
      ))
      yield* pass(0)
      // A connection that has just been opened is a good one.
      yield* PubSub.publish(hints, "online")
      yield* pass("16 seconds")
      yield* PubSub.publish(hints, "visible")
      yield* pass("1 second")
      assert.lengthOf(times, 1, "its heartbeats came")
      yield* PubSub.publish(hints, "online")
      yield* pass("10 millis")
      yield* pass("10 millis")
      assert.lengthOf(times, 2)
      yield* pass("20 seconds")
      yield* PubSub.publish(hints, "visible")
      yield* pass("10 millis")
      yield* pass("10 millis")
      assert.lengthOf(times, 3)
      assert.deepStrictEqual(opened, [true, false, true, false, true])
    }))
})
