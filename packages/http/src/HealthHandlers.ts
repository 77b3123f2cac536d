/**
 * Answers whether the server lives and whether it can answer requests, for process managers and load balancers.
 */
import { type CheckStatus, HealthView, NotReady } from "@sallyport/contract/HealthGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as Following from "@sallyport/core/Following"
import { Stopping } from "@sallyport/core/Stopping"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Stream from "effect/Stream"

/**
 * Holds the checks of a host, by name, beside those of Sallyport: `store`, whether the store answers, and `feed`, whether
 * changes of other processes are heard of. A check that fails, or takes longer than two seconds, is `failed`, and the server
 * is not ready. Read when the layer of the handlers is built.
 *
 * **Example** (Adding a check)
 *
 * ```ts
 * import { HealthHandlers } from "@sallyport/http"
 * import { Effect, Layer } from "effect"
 *
 * // The routes that this layer is provided to answer 503 to `/api/health/ready` while the queue cannot be reached.
 * export const Queue = Layer.succeed(HealthHandlers.Checks, {
 *   queue: Effect.as(Effect.promise(() => Promise.resolve("pong")), "ok" as const)
 * })
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Checks: Context.Reference<Readonly<Record<string, Effect.Effect<CheckStatus, unknown>>>> = Context
  .Reference(
    "@sallyport/http/HealthHandlers/Checks",
    { defaultValue: () => ({}) }
  )

// The checks of a second are one, however many ask, so that no client can load the store by asking.
const sharedMillis = 1_000
const timeLimit = Duration.seconds(2)

/**
 * Provides the handlers of the group `health`. The checks are made at most once a second, however many ask. While the feed
 * is not heard the server works more slowly, but needs no other: it is `degraded`, and ready.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  SallyportApi,
  "health",
  Effect.fn(function*(handlers) {
    const { feed } = yield* AccessRepository
    const scope = yield* Effect.scope
    const stopping = yield* Effect.forkIn(yield* Stopping, scope)

    // Its other followers tell the log.
    let heard = true
    const hear = (isHeard: boolean) =>
      Effect.sync(() => {
        heard = isHeard
      })
    yield* Following.hints({
      wakeUps: feed.wakeups,
      pollInterval: Duration.hours(1),
      retryDelay: Duration.millis(250),
      outage: { failed: () => hear(false), worked: hear(true), left: Effect.void }
    }).pipe(Stream.runDrain, Effect.withTracerEnabled(false), Effect.forkIn(scope))

    const checks = Object.entries<Effect.Effect<CheckStatus, unknown>>({
      store: Effect.as(feed.latestRevision, "ok"),
      feed: Effect.sync(() => heard ? "ok" : "degraded"),
      ...yield* Checks
    })
    const look = Effect.map(
      Effect.forEach(checks, ([name, check]) =>
        check.pipe(
          Effect.timeout(timeLimit),
          Effect.catchCause((cause) =>
            Effect.as(Effect.logDebug(`The health check ${name} failed`, cause), "failed" as const)
          ),
          Effect.map((status) => [name, { status }] as const)
        ), { concurrency: "unbounded" }),
      Object.fromEntries
    ).pipe(Effect.withTracerEnabled(false))

    let last:
      | { readonly atMillis: number; readonly fiber: Fiber.Fiber<Record<string, { status: CheckStatus }>> }
      | undefined
    // A client that goes away does not take the look of the others with it.
    const shared = Effect.gen(function*() {
      const nowMillis = yield* Clock.currentTimeMillis
      if (last === undefined || nowMillis < last.atMillis || nowMillis - last.atMillis >= sharedMillis) {
        last = { atMillis: nowMillis, fiber: yield* Effect.forkIn(look, scope) }
      }
      return yield* Fiber.join(last.fiber)
    })

    const refuse = (status: "failed" | "stopping", message: string, checks: Record<string, { status: CheckStatus }>) =>
      new NotReady({ code: "not_ready", message, retryable: true, status, checks })
    const live = Effect.succeed(new HealthView({ status: "ok", checks: {} }))
    const ready = Effect.gen(function*() {
      if (stopping.pollUnsafe() !== undefined) return yield* refuse("stopping", "This server is stopping", {})
      const checks = yield* shared
      const statuses = Object.values(checks).map(({ status }) => status)
      if (statuses.includes("failed")) {
        return yield* refuse("failed", "This server cannot answer at the moment; see its checks", checks)
      }
      return new HealthView({ status: statuses.includes("degraded") ? "degraded" : "ok", checks })
    })
    return handlers.handleAll({
      live: () => live,
      ready: () => ready
    })
  })
)
