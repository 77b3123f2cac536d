import { assert, describe, it } from "@effect/vitest"
import type { DecisionStatus } from "@sallyport/core/access/ConnectClient"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as DecisionStream from "../src/internal/decisionStream.ts"

/** Reads a stream into a text that grows. */
const reading = Effect.fnUntraced(function*(options: Parameters<typeof DecisionStream.respond>[0]) {
  const { body } = DecisionStream.respond(options)
  if (body._tag !== "Stream") return assert.fail("no stream")
  const read = { text: "" }
  const fiber = yield* body.stream.pipe(
    Stream.decodeText,
    Stream.runForEach((part) =>
      Effect.sync(() => {
        read.text += part
      })
    ),
    Effect.forkChild({ startImmediately: true })
  )
  // What is forked to watch the stream is waiting before the time goes on.
  yield* Effect.repeat(Effect.yieldNow, { times: 20 })
  return { read, done: Fiber.join(fiber), stop: Fiber.interrupt(fiber) }
})

const decision = (status: DecisionStatus) => `event: decision\ndata: {"approvalStatus":"${status}"}\n\n`
const opening = "retry: 1000\n\n"
const heartbeat = ": heartbeat\n\n"

describe("a relay's stream of decisions", () => {
  it.effect("CONN-11: keeps the connection alive while nothing is decided, and ends with the decision", () =>
    Effect.gen(function*() {
      const answers: ReadonlyArray<readonly [seconds: number, DecisionStatus]> = [[30, "pending"], [3, "approved"]]
      let asked = 0
      const { done, read } = yield* reading({
        ask: Effect.suspend(() => {
          const [seconds, status] = answers[asked++] ?? [0, "expired"]
          return Effect.delay(Effect.succeed(status), `${seconds} seconds`)
        }),
        until: Effect.never
      })
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(read.text, opening + heartbeat)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(read.text.replaceAll(heartbeat, ""), opening + decision("pending"))
      yield* TestClock.adjust("1 second")
      yield* done
      assert.strictEqual(read.text.replaceAll(heartbeat, ""), opening + decision("pending") + decision("approved"))
      assert.strictEqual(asked, 2)
    }))

  it.effect("asks an environment that answers at once no more than once a second, and not without an end", () =>
    Effect.gen(function*() {
      let asked = 0
      const { done } = yield* reading({
        ask: Effect.sync(() => {
          asked++
          return "pending"
        }),
        until: Effect.never
      })
      yield* Effect.forEach([1, 2, 3, 4, 5], () => TestClock.adjust("500 millis"))
      assert.strictEqual(asked, 3)
      yield* Effect.forEach(Array.from({ length: 20 }), () => TestClock.adjust("1 second"))
      yield* done
      assert.strictEqual(asked, 10)
    }))

  it.effect("SESS-08: tells why it ends before the decision, and stops asking when its reader goes", () =>
    Effect.gen(function*() {
      const ended = yield* Deferred.make<void, DecisionStream.Failure>()
      let asking = 0
      const ask = Effect.never.pipe(
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            asking--
          })
        ),
        (waiting) =>
          Effect.suspend(() => {
            asking++
            return waiting
          })
      )
      const first = yield* reading({ ask, until: Deferred.await(ended) })
      const failure = { code: "session_ended", message: "It has ended", retryable: false }
      assert.strictEqual(asking, 1)
      yield* Deferred.fail(ended, failure)
      yield* first.done
      assert.strictEqual(first.read.text, `${opening}event: failure\ndata: ${JSON.stringify(failure)}\n\n`)
      assert.strictEqual(asking, 0)

      const second = yield* reading({ ask, until: Effect.never })
      assert.strictEqual(asking, 1)
      yield* second.stop
      assert.strictEqual(asking, 0)

      const third = yield* reading({ ask: Effect.fail(failure), until: Effect.never })
      yield* TestClock.adjust("1 second")
      yield* third.done
      assert.include(third.read.text, "event: failure")

      const stopped = yield* reading({ ask, until: Effect.void })
      yield* stopped.done
      assert.strictEqual(stopped.read.text.replace(opening, ""), "")
    }))
})
