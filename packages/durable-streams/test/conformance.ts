/**
 * Runs the protocol's own suite against a server that asks for a session.
 */
import { runConformanceTests } from "@durable-streams/server-conformance-tests"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll, beforeAll, describe, type RunnerTestSuite } from "vitest"
import { type Repositories, start } from "./support.ts"

/**
 * Has the tests that are timed tried again if they fail: they let 1.5 seconds of a lifetime of 2 go by, and a busy machine may
 * use up the rest. A fault of ours fails each try.
 */
const retryTimed = ({ tasks }: Readonly<RunnerTestSuite>): void => {
  for (const task of tasks) {
    if (task.type === "suite") retryTimed(task)
    else if (/\b(extend|expires?|expiry|passes|renewal)\b/.test(task.name)) task.retry = 4
  }
}

/** Runs the suite, every request of it with the token of a session unless it carries a token of its own. */
export const conformance = (name: string, repositories: Repositories, directly = true) =>
  describe(`Durable Streams protocol (${name})`, () => {
    const config = { baseUrl: "", subscriptions: true }
    const scope = Scope.makeUnsafe()
    const { fetch } = globalThis

    // Vitest takes nothing but a pattern here.
    // oxlint-disable-next-line no-empty-pattern, no-empty-object-pattern
    beforeAll(({}, suite) => retryTimed(suite))
    beforeAll(() =>
      Effect.runPromise(
        Effect.gen(function*() {
          // Longer than a busy machine takes to store what a reader waits for, and shorter than the 5 seconds after which the
          // suite no longer waits for the answer that there was nothing.
          const server = yield* start({ repositories, directly, prefix: "/v1/stream", longPollTimeout: "4 seconds" })
          const token = yield* server.token("suite")
          config.baseUrl = server.url
          globalThis.fetch = (input, init) => {
            const headers = new Headers(init?.headers)
            const isOurs = String(input).startsWith(server.url)
            if (isOurs && !headers.has("authorization")) headers.set("authorization", `Bearer ${token}`)
            return fetch(input, { ...init, headers })
          }
        }).pipe(Scope.provide(scope))
      )
    )
    afterAll(() => {
      globalThis.fetch = fetch
      return Effect.runPromise(Scope.close(scope, Exit.void))
    })

    runConformanceTests(config)
  })
