/**
 * How a repository's operation runs on a database: its isolation, its deadline, what is tried again, and what every failure
 * becomes.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import * as Metrics from "../Metrics.ts"
import { RepositoryError, type RepositoryFailure } from "../RepositoryError.ts"
import { CurrentProgress, makePgTransaction, type Progress, type Wrap } from "./internal/pgTransaction.ts"
import { within } from "./internal/within.ts"
import { CorruptRow } from "./Rows.ts"

/**
 * Says how long an operation of a repository may take, by default 10 seconds: waiting for a connection, for locks and for
 * answers included. Read when the layer of a repository is built.
 *
 * @category services
 * @since 0.1.0
 */
export const Deadline: Context.Reference<Duration.Duration> = Context.Reference<Duration.Duration>(
  "@sallyport/core/sql/Transactions/Deadline",
  { defaultValue: () => Duration.seconds(10) }
)

/**
 * Runs an operation, named for its error, and turns whatever fails into a `RepositoryError`.
 *
 * @category models
 * @since 0.1.0
 */
export type Run = (operation: string) => <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, RepositoryError, R>

/**
 * Runs the operations of repositories on one client.
 *
 * **Details**
 *
 * Each runs as READ COMMITTED on PostgreSQL, whatever the database's default is: a writer that waited for a row then looks
 * at the row again and is refused by its own condition, and a stricter level would fail it instead. Deadlocks, and
 * serialization failures if a default changed meanwhile, are tried again a few times. An operation that a host calls
 * inside a transaction of its own joins that one, with its isolation and without retries.
 *
 * Past the {@link Deadline} the caller gets its error at once; the statement is cancelled, and a connection that does not
 * answer even to that is closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transactions {
  /** Runs statements that read, one after the other, each on its own. */
  readonly read: Run
  /** Runs one statement that writes. */
  readonly write: Run
  /** Runs statements as one transaction; on SQLite it takes the write lock at its beginning. */
  readonly transaction: Run
  /** Runs statements that read as of one point in time; no writer is waited for or held up. */
  readonly snapshot: Run
  /** Tells whether the caller has a transaction of its own, which operations then join. */
  readonly isJoined: Effect.Effect<boolean>
}

const attempts = 8
const retrySchedule = Schedule.exponential("4 millis").pipe(Schedule.jittered)

const reasonOf = (error: SqlError): RepositoryFailure => {
  switch (error.reason._tag) {
    case "ConnectionError":
    case "AuthenticationError":
    case "LockTimeoutError":
      return "Unavailable"
    case "AuthorizationError":
      return sqliteCodeOf(error.reason.cause) === sqliteReadOnly ? "Unavailable" : "Failed"
    case "StatementTimeoutError":
      return "TimedOut"
    case "DeadlockError":
    case "SerializationError":
      return "Contended"
    case "UniqueViolation":
      return "Conflict"
    case "UnknownError":
      return isOutage(error.reason.cause) ? "Unavailable" : isDamage(error.reason.cause) ? "Corrupt" : "Failed"
    default:
      return "Failed"
  }
}

/**
 * Tells whether a server says that it cannot work now: classes 53 (no resources left), 57 (it stops, or an operator ended the
 * connection) and 58 (its system fails) of PostgreSQL, and 25006 (it became read-only), 25P03 (it ended an idle
 * transaction); a disk of SQLite's that is full, fails, or became read-only.
 */
const isOutage = (cause: unknown): boolean => {
  const code = propertyOf(cause, "code")
  const sqliteCode = sqliteCodeOf(cause)
  return (typeof code === "string" && /^(53|57|58)|^25006$|^25P03$/.test(code)) ||
    sqliteCode === sqliteIoError || sqliteCode === sqliteFull
}

/** Tells whether SQLite found its file damaged, or that it is no database. */
const isDamage = (cause: unknown): boolean => {
  const code = sqliteCodeOf(cause)
  return code === sqliteCorrupt || code === sqliteNotADatabase
}

const sqliteReadOnly = 8
const sqliteIoError = 10
const sqliteCorrupt = 11
const sqliteFull = 13
const sqliteNotADatabase = 26

/** Returns SQLite's primary code: drivers keep it, or its extended form, in one of two places. */
const sqliteCodeOf = (cause: unknown): number | undefined => {
  const code = propertyOf(cause, "errcode") ?? propertyOf(cause, "errno")
  return typeof code === "number" ? code & 0xff : undefined
}

const propertyOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined

/** Tells whether a failure says that the database did not keep what the statement was to do. */
const isRefusal = (error: unknown): boolean =>
  !isSqlError(error) || !["ConnectionError", "UnknownError"].includes(error.reason._tag) ||
  // What a full disk did not take, SQLite has taken back.
  sqliteCodeOf(error.reason.cause) === sqliteFull

/** Finds what failed: also an `SqlError` that ended a transaction as a defect. */
const failureOf = (cause: Cause.Cause<unknown>): Option.Option<unknown> => {
  const errors = cause.reasons.flatMap((reason) =>
    Cause.isFailReason(reason)
      ? [reason.error]
      : Cause.isDieReason(reason) && isSqlError(reason.defect)
      ? [reason.defect]
      : []
  )
  return Option.fromUndefinedOr(errors.find(isSqlError) ?? errors[0])
}

const toError = (operation: string, error: unknown, unknownIfLost: boolean): RepositoryError => {
  if (error instanceof RepositoryError) return error
  const reason = error instanceof CorruptRow ? "Corrupt" : isSqlError(error) ? reasonOf(error) : "Failed"
  return new RepositoryError({
    operation,
    reason,
    outcome: unknownIfLost && !isRefusal(error) ? "unknown" : "unchanged",
    cause: error
  })
}

/**
 * Returns how the failure of something that changes nothing becomes a `RepositoryError`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const failedAs = (operation: string) => (error: unknown): RepositoryError => toError(operation, error, false)

const isContended = (error: RepositoryError): boolean => error.reason === "Contended"

const silence = (deadline: Duration.Duration) =>
  new Error(`No answer within ${Duration.format(deadline)}; the statement was given up`)

// What is known of a client, for all repositories on it; a client is known again without its transforms by this.
const strictByClient = new WeakMap<object, boolean>()

/** Tells whether statements outside of a transaction run under another isolation than READ COMMITTED. */
const isStrict = (sql: SqlClient.SqlClient): Effect.Effect<boolean, SqlError> =>
  Effect.suspend(() => {
    const known = strictByClient.get(sql.transactionService)
    if (known !== undefined) return Effect.succeed(known)
    return Effect.map(
      sql.unsafe<{ readonly default_transaction_isolation: string }>("SHOW default_transaction_isolation"),
      ([row]) => {
        const strict = row?.default_transaction_isolation !== "read committed"
        strictByClient.set(sql.transactionService, strict)
        return strict
      }
    )
  })

/** Records how long an operation took and what came of it. */
const measured = <A, R>(store: string, operation: string, self: Effect.Effect<A, RepositoryError, R>) =>
  Effect.flatMap(
    Clock.monotonicTimeNanos,
    (began) =>
      Effect.onExit(self, (exit) =>
        Effect.flatMap(Clock.monotonicTimeNanos, (ended) =>
          Metrics.storeOperations(Number(ended - began) / 1e9, {
            store,
            operation,
            result: Exit.match(exit, {
              onSuccess: () =>
                "ok",
              onFailure: (cause) =>
                Option.match(Cause.findErrorOption(cause), {
                  onNone: () => "interrupted",
                  onSome: ({ reason }) => reason
                })
            })
          })))
  )

/**
 * Makes what runs the operations of repositories on a client. `store` names it in what is measured.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  store: string
): Effect.fn.Return<Transactions> {
  const deadline = yield* Deadline
  const isPg = sql.onDialectOrElse({ pg: () => true, orElse: () => false })

  const bare: Wrap = identity
  const begun = (begin: string): Wrap =>
    isPg
      ? makePgTransaction(sql, begin)
      : (self) =>
        Effect.provideService(
          sql.withTransaction(Effect.tap(self, Effect.map(CurrentProgress, (progress) => progress.committing = true))),
          SqlClient.BeginTransaction,
          begin
        )
  const committed = begun(isPg ? "BEGIN ISOLATION LEVEL READ COMMITTED" : "BEGIN IMMEDIATE")
  const single: Wrap = isPg
    ? (self) => Effect.flatMap(isStrict(sql), (strict) => (strict ? committed : bare)(self))
    : bare

  const joinsAny = (context: Context.Context<never>) =>
    Option.isSome(Context.getOption(context, sql.transactionService))
  const run = (wrap: Wrap, wrapJoined: Wrap, loses: (progress: Progress) => boolean): Run => (operation) => (self) =>
    Effect.withFiber((fiber) => {
      const joins = joinsAny(fiber.context)
      const once = Effect.suspend(() => {
        const progress: Progress = { committing: false }
        return within(
          Effect.provideService((joins ? wrapJoined : wrap)(self), CurrentProgress, progress),
          deadline,
          Effect.suspend(() =>
            Effect.fail(
              new RepositoryError({
                operation,
                reason: "TimedOut",
                outcome: loses(progress) ? "unknown" : "unchanged",
                cause: silence(deadline)
              })
            )
          )
        ).pipe(
          Effect.catchCause((cause) =>
            Option.match(failureOf(cause), {
              onNone: () => Effect.failCause(Cause.map(cause, (error) => toError(operation, error, false))),
              onSome: (error) => Effect.fail(toError(operation, error, loses(progress)))
            })
          )
        )
      })
      return joins ? once : measured(
        store,
        operation,
        Effect.retry(once, { times: attempts - 1, while: isContended, schedule: retrySchedule })
      )
    })

  const nested: Wrap = (self) => sql.withTransaction(self)
  return {
    read: run(single, bare, () => false),
    write: run(single, bare, () => true),
    transaction: run(committed, nested, (progress) => progress.committing),
    snapshot: run(begun(isPg ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" : "BEGIN"), nested, () => false),
    isJoined: Effect.withFiber((fiber) => Effect.succeed(joinsAny(fiber.context)))
  }
})
