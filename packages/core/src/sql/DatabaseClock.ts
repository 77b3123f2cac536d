/**
 * Gives the nodes of a deployment one time of day: that of the database they share.
 *
 * Lifetimes of links, sessions and tokens are given by one node and looked at by another. By their own clocks a pairing
 * link of five minutes would have ended on a node that is five minutes ahead.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Dialect from "./Dialect.ts"
import * as Statements from "./Statements.ts"

/**
 * Makes a clock that tells the database's time of day, and waits as the ambient one does.
 *
 * **Details**
 *
 * It asks the database when it is made and every 10 seconds from then on. In between it goes by the process's monotonic
 * clock, so that a jump of the machine's time of day moves nothing. While the database does not answer it goes on so; if it
 * has never answered, this is the ambient time of day.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<Clock.Clock, never, SqlClient.SqlClient | Scope.Scope> = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const ambient = yield* Clock.Clock
  const ask = Statements.make(sql, undefined).statement<{ readonly now: unknown }>(
    `SELECT ${Dialect.nowMillisText(sql)} AS now`
  )
  const elapsed = () => Number(ambient.monotonicTimeNanosUnsafe()) / 1_000_000
  let aheadMillis = ambient.currentTimeMillisUnsafe() - elapsed()
  const now = () => elapsed() + aheadMillis
  const look = Effect.gen(function*() {
    const before = elapsed()
    const [row] = yield* ask([])
    const after = elapsed()
    // The answer was true at some time between the two, which the clock may fit already.
    const [earliest, latest] = [Dialect.toNatural(row?.now) - after, Dialect.toNatural(row?.now) + 1 - before]
    if (aheadMillis < earliest || aheadMillis > latest) aheadMillis = (earliest + latest) / 2
  }).pipe(Effect.timeout("5 seconds"), Effect.ignore, Effect.withTracerEnabled(false))
  yield* look
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep("10 seconds"), look)))
  const millis = () => Math.floor(now())
  const nanos = () => BigInt(millis()) * 1_000_000n
  return {
    monotonicTimeNanosUnsafe: () => ambient.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: ambient.monotonicTimeNanos,
    sleep: (duration) => ambient.sleep(duration),
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos)
  }
})

/**
 * Provides the clock to all that is built with this layer, and to the requests that they serve.
 *
 * **Details**
 *
 * `PgRepositories` has it. A host of several nodes that provides `SqlRepositories` on PostgreSQL adds it beside them.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, never, SqlClient.SqlClient> = Layer.effect(Clock.Clock, make)
