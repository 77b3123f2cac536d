/**
 * Tells the readers of a database, in this process and in others, that there may be something new.
 *
 * Without further ado a process hears of its own commits at once. Those of others are found by looking: on SQLite at
 * `PRAGMA data_version` every 20 milliseconds, which costs a few microseconds; on PostgreSQL by looking at the tables every
 * 250 milliseconds. `PgWakeUps` has PostgreSQL tell instead. In any case there is one source for a client, however many
 * listen, and none while there is no listener.
 */
import * as WakeUps from "@sallyport/core/WakeUps"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"

/**
 * Lists what changed: keys, each with its newest position.
 *
 * @category models
 * @since 0.1.0
 */
export type Changes = ReadonlyArray<readonly [key: string, position: number]>

/**
 * Gives hints, and takes them, by topic: the name of a table stands for what is in it.
 *
 * @category models
 * @since 0.1.0
 */
export interface SqlWakeUps {
  /** Hints at changes once the outermost transaction commits, or at once if there is none. */
  readonly announce: (topic: string, changes: Changes) => Effect.Effect<void>
  /** Listens while the stream runs; it begins with `anything` once the source is listening, and fails when that is lost. */
  readonly listen: (topic: string) => Stream.Stream<WakeUps.WakeUp, SqlError>
}

/**
 * Finds out what other processes commit.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source {
  /**
   * Runs for as long as there is a listener. It calls `ready` when no later commit will go unnoticed, and fails when one may
   * have.
   */
  readonly run: (options: {
    readonly ready: Effect.Effect<void>
    /** Hints at one topic, or at all. */
    readonly wake: (topic: string | undefined, wakeUp: WakeUps.WakeUp) => void
  }) => Effect.Effect<never, SqlError>
  /** Is told what this process has committed. */
  readonly committed?: ((topic: string, changes: Changes) => void) | undefined
}

/**
 * Makes the wake-ups of a client on a source.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (sql: SqlClient.SqlClient, source: Source): SqlWakeUps => {
  interface Session {
    readonly ready: Deferred.Deferred<void, SqlError>
    interrupt: () => void
  }
  const topics = new Map<string, WakeUps.WakeUps<SqlError>>()
  let session: Session | undefined
  let listening = 0

  const topicOf = (name: string): WakeUps.WakeUps<SqlError> => {
    const known = topics.get(name)
    if (known !== undefined) return known
    const created = WakeUps.make<SqlError>()
    topics.set(name, created)
    return created
  }

  const begin = Effect.suspend(() => {
    const mine: Session = { ready: Deferred.makeUnsafe(), interrupt: () => {} }
    session = mine
    const run = source.run({
      ready: Effect.sync(() => Deferred.doneUnsafe(mine.ready, Effect.void)),
      wake: (topic, wakeUp) => {
        if (topic !== undefined) topics.get(topic)?.wake(wakeUp)
        else for (const each of topics.values()) each.wake(wakeUp)
      }
    }).pipe(
      Effect.catch((error) =>
        Effect.sync(() => {
          if (session !== mine) return
          session = undefined
          Deferred.doneUnsafe(mine.ready, Effect.fail(error))
          for (const topic of topics.values()) topic.fail(error)
        })
      ),
      Effect.withTracerEnabled(false),
      // A caller that listens first may be in a transaction; the source must outlive it.
      Effect.updateContext((context: Context.Context<never>) => Context.omit(sql.transactionService)(context))
    )
    return Effect.map(Effect.forkDetach(run), (fiber) => {
      mine.interrupt = () => fiber.interruptUnsafe()
      return mine
    })
  })

  const join = Effect.acquireRelease(
    Effect.suspend(() => {
      listening++
      return session === undefined ? begin : Effect.succeed(session)
    }),
    () =>
      Effect.sync(() => {
        if (--listening > 0 || session === undefined) return
        const ending = session
        session = undefined
        ending.interrupt()
      })
  )

  return {
    announce: (topic, changes) =>
      changes.length === 0 ? Effect.void : sql.afterCommit(Effect.sync(() => {
        topicOf(topic).wake(new Map(changes))
        source.committed?.(topic, changes)
      })),
    listen: (topic) =>
      Stream.unwrap(Effect.gen(function*() {
        // Listens here first, so that a loss of the source is not lost itself.
        const hints = yield* topicOf(topic).subscribe
        const { ready } = yield* join
        yield* Deferred.await(ready)
        return hints
      }))
  }
}

/**
 * Looks at the tables again and again, for databases that do not tell.
 *
 * @category constants
 * @since 0.1.0
 */
export const polling: Source = {
  run: ({ ready, wake }) =>
    Effect.andThen(
      ready,
      Effect.sync(() => wake(undefined, "anything")).pipe(Effect.delay("250 millis"), Effect.forever)
    )
}

/** Looks at the number that SQLite changes when another connection commits. */
const dataVersion = (sql: SqlClient.SqlClient): Source => ({
  run: Effect.fnUntraced(function*({ ready, wake }) {
    const files = yield* Effect.option(sql.unsafe<{ readonly file: string | null }>("PRAGMA database_list"))
    if (files._tag === "None") return yield* polling.run({ ready, wake })
    if (files.value.every(({ file }) => file === null || file === "")) {
      // A database in memory has no other connection.
      yield* ready
      return yield* Effect.never
    }
    const version = Effect.map(
      sql.unsafe<{ readonly data_version: number }>("PRAGMA data_version"),
      ([row]) => row?.data_version
    )
    let seen = yield* version
    yield* ready
    while (true) {
      yield* Effect.sleep("20 millis")
      const current = yield* version
      if (current === seen) continue
      seen = current
      wake(undefined, "anything")
    }
  })
})

// A client is told from others, and known again without its transforms, by its transactions.
const byClient = new WeakMap<object, SqlWakeUps>()

/**
 * The wake-ups that the repositories of one runtime use, if a host provides some.
 *
 * @category services
 * @since 0.1.0
 */
export const Current: Context.Reference<SqlWakeUps | undefined> = Context.Reference(
  "@sallyport/core/sql/SqlWakeUps/Current",
  { defaultValue: (): SqlWakeUps | undefined => undefined }
)

/**
 * Returns the wake-ups for a client: those that are provided, or else those that all repositories on the client share.
 *
 * @category constructors
 * @since 0.1.0
 */
export const forClient = (sql: SqlClient.SqlClient): Effect.Effect<SqlWakeUps> =>
  Effect.map(Current, (provided) => {
    if (provided !== undefined) return provided
    const known = byClient.get(sql.transactionService)
    if (known !== undefined) return known
    const created = make(sql, sql.onDialectOrElse({ sqlite: () => dataVersion(sql), orElse: () => polling }))
    byClient.set(sql.transactionService, created)
    return created
  })
