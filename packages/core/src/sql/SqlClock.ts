/**
 * The time of day as the database tells it, for nodes whose own clocks differ.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Dialect from "./Dialect.ts"

/** A measurement that took longer is too inexact. */
const maxRoundTripMillis = 1_000

/**
 * Provides a `Clock` whose time of day is the database's. It waits, and measures how much time has gone by, as the clock that
 * it is built on. Fails if the database cannot be asked.
 *
 * **When to use**
 *
 * Use when several machines share a database. The lifetimes of sessions, links and tickets are by `Clock`, so that two nodes
 * whose clocks are minutes apart would not agree on what has ended. Provide it to the services and to the server; the
 * repositories do not need it.
 *
 * **Details**
 *
 * The database is asked when the layer is built and every 10 seconds; in between, and as long as it does not answer, the time
 * goes on by the monotonic clock. So neither a jump of the machine's time of day nor its correction is seen. On a machine that
 * was asleep the clock is behind until the database has been asked again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, SqlError, SqlClient.SqlClient> = Layer.effect(
  Clock.Clock,
  Effect.gen(function*() {
    const sql = (yield* SqlClient.SqlClient).withoutTransforms()
    const own = yield* Clock.Clock
    const elapsedMillis = () => Number(own.monotonicTimeNanosUnsafe()) / 1e6
    const ask = sql.unsafe<{ readonly now: unknown }>(`SELECT ${Dialect.nowMillisText(sql)} AS now`)
    let aheadMillis = own.currentTimeMillisUnsafe() - elapsedMillis()
    const measure = Effect.gen(function*() {
      const asked = elapsedMillis()
      const [row] = yield* ask
      const answered = elapsedMillis()
      if (answered - asked <= maxRoundTripMillis) {
        aheadMillis = Dialect.toNatural(row?.now) - (asked + answered) / 2
      }
    })
    yield* measure
    yield* Effect.ignore(measure).pipe(
      Effect.delay("10 seconds"),
      Effect.forever,
      Effect.withTracerEnabled(false),
      Effect.forkScoped
    )
    const nowMillis = () => Math.floor(aheadMillis + elapsedMillis())
    const nowNanos = () => BigInt(nowMillis()) * 1_000_000n
    const clock: Clock.Clock = {
      currentTimeMillisUnsafe: nowMillis,
      currentTimeMillis: Effect.sync(nowMillis),
      currentTimeNanosUnsafe: nowNanos,
      currentTimeNanos: Effect.sync(nowNanos),
      monotonicTimeNanosUnsafe: () => own.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: own.monotonicTimeNanos,
      sleep: (duration) => own.sleep(duration)
    }
    return clock
  })
)
