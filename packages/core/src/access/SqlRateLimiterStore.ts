/**
 * Keeps the counters of `effect/persistence` rate limits in SQLite or PostgreSQL, so that the nodes of a deployment share
 * them: `RateLimiter.layer.pipe(Layer.provide(SqlRateLimiterStore.layer))`.
 *
 * The table is `<prefix>rate_limits`. A row is of no use once it has run out, and {@link layerSweeper} deletes it then.
 * Time is that of `Clock`, as in the stores that Effect has in memory and on Redis. `layer` brings the table up to date
 * before it answers; a host that runs migrations on its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Migrations from "../sql/Migrations.ts"
import * as SqlKit from "../sql/SqlKit.ts"
import * as Statements from "../sql/Statements.ts"
import * as Sweeper from "../Sweeper.ts"

/** The type of counts and times, which may have fractions. */
const float = ({ isPg }: { readonly isPg: boolean }): string => isPg ? "DOUBLE PRECISION" : "REAL"

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { clustered, id, isPg, table } = Statements.make(sql, options)
  const limits = table("rate_limits")
  const number = float({ isPg })
  return [
    `CREATE TABLE ${limits} (
      kind ${id} NOT NULL CHECK (kind IN ('fixed-window', 'token-bucket', 'adaptive')),
      key ${id} NOT NULL,
      count ${number} NOT NULL,
      state TEXT,
      expires_at_millis ${number} NOT NULL,
      PRIMARY KEY (kind, key)
    ) ${clustered}`,
    `CREATE INDEX ${table("rate_limits_expiry")} ON ${limits} (expires_at_millis)`
  ]
}

/**
 * Creates the table of counters, or brings it up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Migrations.run({
    service: "rate_limits",
    ...options,
    migrations: { "1_create_rate_limits": Statements.creating(create, options) }
  }))

/** A bucket: how many tokens it held when it was last filled up by a whole one, and when that was. */
const Bucket = Schema.Struct({ tokens: Schema.Finite, filledAtMillis: Schema.Finite })

/**
 * What was learnt from the answers of a service that limits us: `cooldown` until it takes requests again, `learning` how
 * many it takes, or `learned`.
 */
const Adaptive = Schema.Union([
  Schema.Struct({ phase: Schema.Literal("cooldown"), epoch: Schema.Natural, untilMillis: Schema.Finite }),
  Schema.Struct({
    phase: Schema.Literal("learning"),
    epoch: Schema.Natural,
    sinceMillis: Schema.Finite,
    tokens: Schema.Finite
  }),
  Schema.Struct({
    phase: Schema.Literal("learned"),
    epoch: Schema.Natural,
    limit: Schema.Finite,
    windowMillis: Schema.Finite,
    tokens: Schema.Finite,
    untilMillis: Schema.Finite
  })
])
type Adaptive = typeof Adaptive.Type

/** How long what was learnt is kept beyond the time for which it was learnt. */
const adaptiveGraceMillis = 60_000

/** The longest that a service is believed when it says how long to wait. */
const adaptiveMaximumMillis = 3_600_000

const atMostAnHour = (millis: number): number => millis > 0 ? Math.min(millis, adaptiveMaximumMillis) : 1

/** What a step makes of a state: an answer and, if the state changes, the new one, with its end unless that stays. */
interface Step<A, State> {
  readonly answer: A
  readonly next?: { readonly state: State; readonly expiresAtMillis?: number }
}

const takeFromBucket = (
  bucket: typeof Bucket.Type | undefined,
  request: {
    readonly tokens: number
    readonly limit: number
    readonly refillMillis: number
    readonly allowOverflow: boolean
  },
  nowMillis: number
): Step<readonly [remaining: number, elapsedMillis: number], typeof Bucket.Type> => {
  const { allowOverflow, limit, refillMillis, tokens } = request
  const found = bucket ?? { tokens: limit, filledAtMillis: nowMillis }
  const gained = Math.max(0, Math.floor((nowMillis - found.filledAtMillis) / refillMillis))
  const held = gained === 0 ? found.tokens : Math.min(limit, found.tokens + gained)
  const filledAtMillis = held >= limit ? nowMillis : found.filledAtMillis + gained * refillMillis
  const remaining = held - tokens
  const kept = remaining >= 0 || allowOverflow ? remaining : held
  return {
    answer: [remaining, Math.max(0, nowMillis - filledAtMillis)],
    // A full bucket is as good as none.
    next: {
      state: { tokens: kept, filledAtMillis },
      expiresAtMillis: filledAtMillis + Math.ceil(limit - kept) * refillMillis
    }
  }
}

const consumeAdaptive = (
  state: Adaptive,
  request: RateLimiter.AdaptiveConsumeOptions,
  nowMillis: number
): Step<RateLimiter.AdaptiveConsumeResult, Adaptive> => {
  const answer = (phase: Adaptive["phase"], epoch: number, delayMillis = 0): RateLimiter.AdaptiveConsumeResult => ({
    delay: Duration.millis(Math.max(0, delayMillis)),
    epoch,
    phase
  })
  switch (state.phase) {
    case "cooldown": {
      if (state.untilMillis > nowMillis) {
        return { answer: answer("cooldown", state.epoch, state.untilMillis - nowMillis) }
      }
      const epoch = state.epoch + 1
      return {
        answer: answer("learning", epoch),
        next: {
          state: { phase: "learning", epoch, sinceMillis: nowMillis, tokens: request.tokens },
          expiresAtMillis: nowMillis + Duration.toMillis(request.fallbackWindow) + adaptiveGraceMillis
        }
      }
    }
    case "learning":
      return {
        answer: answer("learning", state.epoch),
        next: { state: { ...state, tokens: state.tokens + request.tokens } }
      }
    case "learned": {
      const { limit, windowMillis } = state
      const restarted = state.untilMillis <= nowMillis
      const tokens = (restarted ? 0 : state.tokens) + request.tokens
      const perToken = windowMillis / limit
      const untilMillis = (restarted ? nowMillis : state.untilMillis) + perToken * request.tokens
      // The requests of a window go at once, and those of the next ones when theirs begins.
      const beganMillis = untilMillis - tokens * perToken
      const delayMillis = beganMillis + Math.floor((tokens - 1) / limit) * windowMillis - nowMillis
      return {
        answer: answer("learned", state.epoch, delayMillis),
        next: { state: { ...state, tokens, untilMillis } }
      }
    }
  }
}

const feedBack = (
  state: Adaptive | undefined,
  feedback: { readonly epoch: number; readonly tokens: number; readonly retryAfterMillis: number },
  nowMillis: number
): Step<void, Adaptive> => {
  if ((state?.epoch ?? 0) !== feedback.epoch) return { answer: undefined }
  const cooldown = (untilMillis: number): Step<void, Adaptive> => ({
    answer: undefined,
    next: {
      state: { phase: "cooldown", epoch: feedback.epoch, untilMillis },
      expiresAtMillis: untilMillis + adaptiveGraceMillis
    }
  })
  const untilMillis = nowMillis + feedback.retryAfterMillis
  if (state?.phase === "cooldown") return cooldown(Math.max(state.untilMillis, untilMillis))
  const accepted = state?.phase === "learning" ? state.tokens - feedback.tokens : 0
  if (state?.phase !== "learning" || accepted <= 0) return cooldown(untilMillis)
  const windowMillis = atMostAnHour(nowMillis - state.sinceMillis + feedback.retryAfterMillis)
  return {
    answer: undefined,
    next: {
      state: {
        phase: "learned",
        epoch: state.epoch + 1,
        limit: accepted,
        windowMillis,
        tokens: accepted,
        untilMillis: state.sinceMillis + windowMillis
      },
      expiresAtMillis: nowMillis + windowMillis + adaptiveGraceMillis
    }
  }
}

const failAs = <A, R>(message: string) => (self: Effect.Effect<A, unknown, R>) =>
  Effect.mapError(
    self,
    (cause) => new RateLimiter.RateLimiterError({ reason: new RateLimiter.RateLimitStoreError({ message, cause }) })
  )

/**
 * Provides the store on a table that exists already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<RateLimiter.RateLimiterStore, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effect(
    RateLimiter.RateLimiterStore,
    Effect.gen(function*() {
      const kit = yield* SqlKit.make("rate limits", options)
      const { isPg, read, statement, transaction, write } = kit
      const table = kit.table("rate_limits")
      const number = `CAST(? AS ${float(kit)})`

      // One statement, so that of n racers no more than the limit are counted. A row that has run out counts from none.
      const held = "CASE WHEN counter.expires_at_millis <= "
      const add = statement<{ readonly count: number; readonly expires_at_millis: number }>(
        `INSERT INTO ${table} AS counter (kind, key, count, expires_at_millis)
        VALUES ('fixed-window', ?, ${number}, ${number} + ${number})
        ON CONFLICT (kind, key) DO UPDATE SET
          count = ${held}${number} THEN 0 ELSE counter.count END + excluded.count,
          expires_at_millis = ${held}${number} THEN ${number} ELSE counter.expires_at_millis END + ${number}
        WHERE ${held}${number} THEN 0 ELSE counter.count END + excluded.count <= ${number}
        RETURNING count, expires_at_millis`
      )
      const counter = statement<{ readonly count: number; readonly expires_at_millis: number }>(
        `SELECT count, expires_at_millis FROM ${table}
        WHERE kind = 'fixed-window' AND key = ? AND expires_at_millis > ${number}`
      )

      // Taking a row's lock and making it if it is not there is one statement too: a sweeper cannot come in between.
      const openState = statement<{ readonly state: string | null; readonly expires_at_millis: number }>(
        `INSERT INTO ${table} (kind, key, count, expires_at_millis) VALUES (?, ?, 0, ${number})
        ON CONFLICT (kind, key) DO UPDATE SET count = 0 RETURNING state, expires_at_millis`
      )
      const readState = statement<{ readonly state: string | null; readonly expires_at_millis: number }>(
        `SELECT state, expires_at_millis FROM ${table} WHERE kind = ? AND key = ?${isPg ? " FOR UPDATE" : ""}`
      )
      const writeState = statement(
        `UPDATE ${table} SET state = ?, expires_at_millis = ${number} WHERE kind = ? AND key = ?`
      )

      const stateful = <State, E>(kind: string, schema: Schema.Codec<State, E>) => {
        const json = Schema.fromJsonString(schema)
        const decode = Schema.decodeEffect(json)
        const encode = Schema.encodeEffect(json)
        const run = Effect.fnUntraced(function*<A>(
          key: string,
          nowMillis: number,
          row: { readonly state: string | null; readonly expires_at_millis: number } | undefined,
          step: (state: State | undefined) => Step<A, State>
        ) {
          const live = row !== undefined && row.state !== null && row.expires_at_millis > nowMillis
          const { answer, next } = step(live ? yield* decode(row.state) : undefined)
          if (next !== undefined) {
            const expiresAtMillis = next.expiresAtMillis ?? row?.expires_at_millis ?? nowMillis
            yield* writeState([yield* encode(next.state), expiresAtMillis, kind, key])
          }
          return answer
        })
        return {
          /** Runs a step on a state that is made if there is none. */
          open: <A>(key: string, step: (state: State | undefined, nowMillis: number) => Step<A, State>) =>
            Effect.gen(function*() {
              const nowMillis = yield* Clock.currentTimeMillis
              const [row] = yield* openState([kind, key, nowMillis])
              return yield* run(key, nowMillis, row, (state) => step(state, nowMillis))
            }).pipe(transaction(kind)),
          /** Runs a step on a state, and does nothing if there is none. */
          find: <A>(key: string, step: (state: State, nowMillis: number) => Step<A, State>) =>
            Effect.gen(function*() {
              const nowMillis = yield* Clock.currentTimeMillis
              const [row] = yield* readState([kind, key])
              return yield* run(key, nowMillis, row, (state): Step<Option.Option<A>, State> => {
                if (state === undefined) return { answer: Option.none() }
                const { answer, ...rest } = step(state, nowMillis)
                return { ...rest, answer: Option.some(answer) }
              })
            }).pipe(transaction(kind))
        }
      }
      const buckets = stateful("token-bucket", Bucket)
      const adaptive = stateful("adaptive", Adaptive)

      const fixedWindow: RateLimiter.RateLimiterStore["Service"]["fixedWindow"] = Effect.fnUntraced(
        function*({ key, limit, refillRate, tokens }) {
          const extentMillis = Duration.toMillis(refillRate) * tokens
          while (true) {
            const now = yield* Clock.currentTimeMillis
            // What is refused, or takes nothing, is only read: it costs no write and waits for no writer.
            if (limit !== undefined || tokens === 0) {
              const [held] = yield* read("fixedWindow")(counter([key, now]))
              const count = (held?.count ?? 0) + tokens
              if (tokens === 0 || count > (limit ?? Number.MAX_VALUE)) {
                return [count, held === undefined ? 0 : held.expires_at_millis - now] as const
              }
            }
            const [row] = yield* write("fixedWindow")(add([
              key,
              tokens,
              now,
              extentMillis,
              now,
              now,
              now,
              extentMillis,
              now,
              limit ?? Number.MAX_VALUE
            ]))
            if (row !== undefined) return [row.count, row.expires_at_millis - now] as const
            // Another caller has filled it since.
          }
        },
        failAs("A counter could not be read or written")
      )

      return RateLimiter.RateLimiterStore.of({
        fixedWindow,
        tokenBucket: ({ allowOverflow, key, limit, refillRate, tokens }) =>
          buckets.open(
            key,
            (bucket, now) =>
              takeFromBucket(bucket, { tokens, limit, allowOverflow, refillMillis: Duration.toMillis(refillRate) }, now)
          ).pipe(failAs("A bucket could not be read or written")),
        adaptiveConsume: (request) =>
          adaptive.find(request.key, (state, now) => consumeAdaptive(state, request, now)).pipe(
            Effect.map(Option.getOrElse((): RateLimiter.AdaptiveConsumeResult => ({
              delay: Duration.zero,
              epoch: 0,
              phase: "inactive"
            }))),
            failAs("What was learnt of a limit could not be read or written")
          ),
        adaptiveFeedback: ({ epoch, key, retryAfter, status, tokens }) => {
          if (status !== 429 || retryAfter === undefined) return Effect.void
          const retryAfterMillis = atMostAnHour(Duration.toMillis(retryAfter))
          return adaptive.open(key, (state, now) => feedBack(state, { epoch, tokens, retryAfterMillis }, now)).pipe(
            failAs("What was learnt of a limit could not be read or written")
          )
        }
      })
    })
  )

/**
 * Provides the store on a table named with a prefix, which is brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<RateLimiter.RateLimiterStore, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the store on a table named `sallyport_rate_limits`, which is brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RateLimiter.RateLimiterStore, Migrations.MigrationsError, SqlClient.SqlClient> =
  layerWith()

/**
 * Deletes counters that have run out again and again, in batches. Several processes may do this at once.
 *
 * `interval` defaults to 1 minute, `batchSize` to 500 counters. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Migrations.TableOptions & Sweeper.Options
): Layer.Layer<never, Migrations.MigrationsError | Sweeper.InvalidSweeperOptions, SqlClient.SqlClient> =>
  Sweeper.layer({
    name: "rate limits that have run out",
    options,
    defaults: { interval: "1 minute", batchSize: 500 },
    others: ["prefix"],
    sweep: Effect.map(
      SqlKit.make("rate limits", { prefix: options?.prefix }),
      ({ once, skipLocked, statement, table, write }) => {
        const limits = table("rate_limits")
        const sweep = statement(
          `WITH expired AS ${once} (
          SELECT kind, key FROM ${limits} WHERE expires_at_millis <= ? ORDER BY expires_at_millis LIMIT ?${skipLocked}
        )
        DELETE FROM ${limits} WHERE (kind, key) IN (SELECT kind, key FROM expired) RETURNING kind`
        )
        return (limit: number, nowMillis: number) =>
          Effect.map(sweep([nowMillis, limit]), (rows) => rows.length).pipe(write("sweep"))
      }
    )
  })
