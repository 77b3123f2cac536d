/**
 * What a client and the log are told when the store fails, and when the server has a fault of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import { DurableStreamRepository } from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import { StreamSubscriptionRepository } from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { eventually } from "../../../test-support/programs.ts"
import { memory, start } from "./support.ts"

/** Makes the operations of a repository do what a test says, once it says so. */
const altered = <S extends object>(service: S, fault: () => Effect.Effect<never, unknown> | undefined): S =>
  new Proxy(service, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key)
      if (typeof member !== "function") return member
      return (...args: ReadonlyArray<unknown>) => Effect.suspend(() => fault() ?? Reflect.apply(member, target, args))
    }
  })

const failingAs = (reason: RepositoryError["reason"]) =>
  Effect.fail(
    new RepositoryError({
      operation: "read",
      reason,
      outcome: "unchanged",
      cause: new Error("the disk is on fire at /var/lib/secret-path")
    })
  )
const failing = failingAs("Unavailable")
const dying = Effect.die(new Error("a fault at /var/lib/secret-path"))

for (
  const [name, fault, expected] of [
    ["a store that fails", failing, {
      status: 503,
      code: "UNAVAILABLE",
      level: "WARN",
      logged: "Answered unavailable"
    }],
    ["a fault of the server's", dying, {
      status: 500,
      code: "INTERNAL_ERROR",
      level: "ERROR",
      logged: "Answered internal_error"
    }]
  ] as const
) {
  describe("the routes of streams", () => {
    it.live(`OPS-06: tell of ${name} in one line of the log for each answer, under the trace id that the answer tells`, () => {
      const lines: Array<string> = []
      return Effect.gen(function*() {
        let broken = false
        const now = () => broken ? fault : undefined
        const repositories = Layer.merge(
          Layer.effect(DurableStreamRepository, DurableStreamRepository.useSync((real) => altered(real, now))),
          Layer.effect(StreamSubscriptionRepository, StreamSubscriptionRepository.useSync((real) => altered(real, now)))
        ).pipe(Layer.provide(memory))
        const { token, url } = yield* start({ repositories })
        const authorization = `Bearer ${yield* token("owner")}`
        const send = (method: string, path: string, body?: string) =>
          Effect.promise(async () => {
            const headers = { authorization, "content-type": "application/json" }
            const answer = await fetch(url + path, { method, headers, ...(body === undefined ? {} : { body }) })
            return { status: answer.status, text: await answer.text() }
          })
        assert.strictEqual((yield* send("PUT", "/streams/one", "[]")).status, 201)
        broken = true
        lines.length = 0
        for (
          const [method, path, body] of [
            ["PUT", "/streams/two", "[]"],
            ["POST", "/streams/one", "[1]"],
            ["GET", "/streams/one"],
            ["GET", "/streams/one?offset=-1&live=sse"],
            ["GET", "/streams/one?offset=-1&live=long-poll"],
            ["DELETE", "/streams/one"]
          ] as const
        ) {
          const before = lines.length
          const answer = yield* send(method, path, body)
          assert.strictEqual(answer.status, expected.status, `${method} ${path} ${answer.text}`)
          const { error }: { error: { code: string; traceId: string } } = JSON.parse(answer.text)
          assert.strictEqual(error.code, expected.code)
          assert.notInclude(answer.text, "secret-path")
          const said = lines.slice(before).filter((line) => line.includes(error.traceId))
          assert.lengthOf(said, 1, `${method} ${path}`)
          assert.include(said[0], expected.logged)
          assert.include(said[0], `"level":"${expected.level}"`)
          assert.include(said[0], "secret-path")
        }
      }).pipe(
        Effect.provide(Logger.layer([Logger.map(Logger.formatJson, (line) => void lines.push(line))]))
      )
    })
  })
}

describe("an error of the streams", () => {
  for (const [reason, isRetryable] of [["Unavailable", true], ["Corrupt", false]] as const) {
    it.effect(`OPS-02: says of a store that failed as ${reason} whether it can pass`, () =>
      Effect.gen(function*() {
        const streams = yield* DurableStreams.DurableStreams
        const error = yield* Effect.flip(streams.get({ owner: { subject: "ada" }, path: "one" }))
        assert.strictEqual(error.reason._tag === "StorageFailure" && error.reason.cause.reason, reason)
        assert.strictEqual(error.isRetryable, isRetryable)
        assert.include(error.message, "failed in read")
      }).pipe(Effect.provide(
        Layer.provide(
          DurableStreams.layer,
          Layer.effect(
            DurableStreamRepository,
            DurableStreamRepository.useSync((real) => altered(real, () => failingAs(reason)))
          ).pipe(Layer.provide(memory))
        )
      )))
  }
})

describe("the routes of streams when the server stops", () => {
  it.live("OPS-01: answer a typed 503 to what waits for a store that does not answer", () =>
    Effect.gen(function*() {
      let waiting = 0
      // A store gives up at its deadline.
      const fault = () => Effect.andThen(Effect.sync(() => waiting++), Effect.delay(failing, "5 seconds"))
      let broken = false
      const now = () => broken ? fault() : undefined
      const repositories = Layer.merge(
        Layer.effect(DurableStreamRepository, DurableStreamRepository.useSync((real) => altered(real, now))),
        Layer.effect(StreamSubscriptionRepository, StreamSubscriptionRepository.useSync((real) => altered(real, now)))
      ).pipe(Layer.provide(memory))
      const scope = yield* Scope.fork(yield* Scope.Scope)
      const { token, url } = yield* Scope.provide(start({ repositories }), scope)
      const headers = { authorization: `Bearer ${yield* token("owner")}`, "content-type": "text/plain" }
      const send = (method: string, path: string, body?: string) =>
        Effect.promise(async () => {
          const response = await fetch(`${url}/streams/${path}`, {
            method,
            headers,
            ...(body === undefined ? {} : { body })
          })
          return { response, text: await response.text() }
        })
      yield* send("PUT", "one")
      broken = true
      const pending = yield* Effect.forkScoped(Effect.all([
        send("PUT", "two"),
        send("POST", "one", "text"),
        send("GET", "one?offset=-1"),
        send("DELETE", "one"),
        send("GET", "__ds/subscriptions/none")
      ], { concurrency: "unbounded" }))
      yield* eventually(Effect.sync(() => waiting), (count) => count >= 5)
      yield* Scope.close(scope, Exit.void)
      for (const { response, text } of yield* Fiber.join(pending)) {
        assert.strictEqual(response.status, 503, text)
        assert.strictEqual(response.headers.get("retry-after"), "1")
        assert.include(text, `"code":"UNAVAILABLE"`)
        assert.include(text, `"retryable":true`)
      }
    }).pipe(Effect.scoped))

  it.live("HTTP-04 C-79: let go of live reads at once when the server stops, each with a whole answer", () =>
    Effect.gen(function*() {
      let looks = 0
      const repositories = Layer.effect(
        DurableStreamRepository,
        DurableStreamRepository.useSync((real) =>
          altered(real, () => {
            looks++
            return undefined
          })
        )
      ).pipe(Layer.provideMerge(memory))
      const scope = yield* Scope.make()
      // The stop would wait for an hour if a read went on, and the test runs out of time.
      const { token, url } = yield* Scope.provide(
        start({ repositories, longPollTimeout: "1 hour", gracefulShutdownTimeout: "1 hour" }),
        scope
      )
      const headers = { authorization: `Bearer ${yield* token("owner")}`, "content-type": "text/plain" }
      const at = `${url}/streams/one`
      yield* Effect.promise(() => fetch(at, { method: "PUT", headers, body: "so far" }))
      const read = (query: string) =>
        Effect.promise(async () => {
          const response = await fetch(`${at}?${query}`, { headers })
          return { status: response.status, text: await response.text() }
        })
      const before = looks
      const polling = yield* Effect.forkScoped(read("offset=now&live=long-poll"))
      const following = yield* Effect.forkScoped(read("offset=-1&live=sse"))
      yield* eventually(Effect.sync(() => looks), (count) => count >= before + 4)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(polling)).status, 204)
      const { status, text } = yield* Fiber.join(following)
      assert.strictEqual(status, 200)
      assert.include(text, "so far")
    }).pipe(Effect.scoped))
})
