import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import { Clock } from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { SafeIntegers } from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { SqlError, SqlSyntaxError, UnknownError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { closeSync, openSync, statSync } from "node:fs"
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite"
import { problemOf, type SqliteClientConfig } from "./clientConfig.ts"
import { fromThrown, misconfigured, openError } from "./errors.ts"
import * as LockWaits from "./lockWaits.ts"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** A prepared statement with the flags last set on it, so that they are set again only when they change. */
interface Prepared {
  readonly sql: string
  readonly statement: StatementSync
  readonly expiresAt: number
  /** The names of its columns, once it has returned a row; null if `node:sqlite` is to name them each time. */
  names: ReadonlyArray<string> | null | undefined
  returnsRows: boolean | undefined
  arrays: boolean
  bigInts: boolean
}

/** A `Connection` that also hands out its database handle, and the permit that a caller must hold. */
export interface SqliteConnection extends Connection {
  readonly db: DatabaseSync
  readonly permit: Semaphore.Semaphore
}

// Rows read from a cursor before the stream's consumer gets its turn.
const streamChunkSize = 128

// What may follow the first statement: blanks, further semicolons, comments. An open block comment ends with the text.
const blankTail = /[ \t\n\f\r;\uFEFF]+|--[^\n]*|\/\*(?:[^*]|\*(?!\/))*(?:\*\/|\*?$)/y

const isBlank = (text: string): boolean => {
  blankTail.lastIndex = 0
  while (blankTail.lastIndex < text.length) {
    if (!blankTail.test(text)) return false
  }
  return true
}

const describe = (value: unknown): string => {
  if (typeof value !== "object" || value === null) return `a ${typeof value}`
  return value instanceof Date ? "a Date" : `an object (${value.constructor?.name ?? "null prototype"})`
}

const refuseParameter = (value: unknown, index: number): SqlError => {
  const remedy = value instanceof Date
    ? "Bind `date.toISOString()` or `date.getTime()`."
    : "Bind a string, number, bigint, boolean, null or Uint8Array; encode anything else first, for example as JSON."
  const message = `SQLite cannot store parameter ${index + 1}, which is ${describe(value)}. ${remedy}`
  return new SqlError({
    reason: new UnknownError({ cause: new TypeError(message), message, operation: "execute" })
  })
}

const isView = (value: unknown): value is NodeJS.ArrayBufferView => ArrayBuffer.isView(value)

// `node:sqlite` takes a leading object for named parameters: a Date in first place would silently bind NULL.
const encodeParameter = (value: unknown, index: number): SQLInputValue => {
  switch (typeof value) {
    case "string":
    case "number":
    case "bigint":
      return value
    case "boolean":
      return value ? 1 : 0
    case "undefined":
      return null
    default:
      if (value === null) return null
      if (isView(value)) return value
      throw refuseParameter(value, index)
  }
}

const encodeParameters = (params: ReadonlyArray<unknown> | undefined): Array<SQLInputValue> => {
  const encoded: Array<SQLInputValue> = []
  if (params === undefined) return encoded
  for (let i = 0; i < params.length; i++) encoded.push(encodeParameter(params[i], i))
  return encoded
}

// A star stands for the columns that the table has at the time. Assigning `__proto__` sets an object's prototype.
const namedEachTime = /\*|__proto__/i

const prepare = (db: DatabaseSync, sql: string, expiresAt: number): Prepared => {
  let statement: StatementSync
  try {
    statement = db.prepare(sql)
  } catch (cause) {
    throw fromThrown(cause, "prepare")
  }
  // SQLite compiles the first statement only; `sourceSQL` is the text that it took.
  const taken = statement.sourceSQL.length
  if (taken !== sql.length && !isBlank(sql.slice(taken))) {
    const message = "Failed to prepare statement: the text holds more than one statement, of which SQLite would run "
      + "only the first. Run them one by one."
    throw new SqlError({
      reason: new SqlSyntaxError({ cause: new Error(message), message, operation: "prepare" })
    })
  }
  // Not every runtime's `node:sqlite` has arrays.
  const names = namedEachTime.test(sql) || statement.setReturnArrays === undefined ? null : undefined
  return { sql, statement, expiresAt, names, returnsRows: undefined, arrays: false, bigInts: false }
}

/** Creates a lookup of prepared statements that keeps the `capacity` most recently used ones, each for `timeToLive`. */
export const makeCache = (db: DatabaseSync, capacity: number, timeToLive: number | undefined) => {
  // A Map iterates in insertion order, so its first key is the one unused for longest.
  const entries = new Map<string, Prepared>()
  let newest: Prepared | undefined
  return (sql: string, fiber: AnyFiber): Prepared => {
    const now = timeToLive === undefined ? 0 : fiber.getRef(Clock).currentTimeMillisUnsafe()
    if (newest !== undefined && newest.sql === sql && now < newest.expiresAt) return newest
    let entry = entries.get(sql)
    if (entry !== undefined) entries.delete(sql)
    if (entry === undefined || now >= entry.expiresAt) {
      entry = prepare(db, sql, timeToLive === undefined ? Infinity : now + timeToLive)
    }
    if (capacity <= 0) return entry
    entries.set(sql, entry)
    newest = entry
    if (entries.size > capacity) {
      for (const oldest of entries.keys()) {
        entries.delete(oldest)
        break
      }
    }
    return entry
  }
}

const setFlags = (prepared: Prepared, arrays: boolean, bigInts: boolean): void => {
  if (prepared.arrays !== arrays) {
    prepared.statement.setReturnArrays(arrays)
    prepared.arrays = arrays
  }
  if (prepared.bigInts !== bigInts) {
    prepared.statement.setReadBigInts(bigInts)
    prepared.bigInts = bigInts
  }
}

const toObject = (names: ReadonlyArray<string>, row: ReadonlyArray<unknown>): object => {
  const object: Record<string, unknown> = {}
  for (let i = 0; i < names.length; i++) object[names[i] ?? ""] = row[i]
  return object
}

/** Creates the connection over an open handle. Each operation runs statements synchronously, and adds no span. */
const make = (
  db: DatabaseSync,
  permit: Semaphore.Semaphore,
  options: SqliteClientConfig,
  attempt: LockWaits.Run
): SqliteConnection => {
  const cached = makeCache(
    db,
    options.prepareCacheSize ?? 200,
    options.prepareCacheTTL === undefined ? undefined : Duration.toMillis(options.prepareCacheTTL)
  )
  const fresh = (sql: string): Prepared => prepare(db, sql, Infinity)
  // What a caller begins its transactions with is run unprepared, and has few forms.
  const freshUnlessBegin = (sql: string, fiber: AnyFiber): Prepared =>
    sql.startsWith("BEGIN") ? cached(sql, fiber) : fresh(sql)

  const run = <A>(evaluate: (fiber: AnyFiber) => A): Effect.Effect<A, SqlError> =>
    Effect.withFiber((fiber) => attempt("execute", () => evaluate(fiber)))

  // V8 keeps the objects of `node:sqlite` as dictionaries. Rows that come as arrays and become objects here take half the
  // time to make and to read.
  const rows = (
    prepared: Prepared,
    params: ReadonlyArray<unknown> | undefined,
    fiber: AnyFiber
  ): ReadonlyArray<object> => {
    if (prepared.names === null) {
      setFlags(prepared, false, fiber.getRef(SafeIntegers))
      return prepared.statement.all(...encodeParameters(params))
    }
    const found = values(prepared, params, fiber)
    if (found.length === 0) return []
    const names = prepared.names ??= prepared.statement.columns().map(({ name }) => name)
    return found.map((row) => toObject(names, row))
  }

  const values = (
    prepared: Prepared,
    params: ReadonlyArray<unknown> | undefined,
    fiber: AnyFiber
  ): ReadonlyArray<ReadonlyArray<unknown>> => {
    setFlags(prepared, true, fiber.getRef(SafeIntegers))
    const all: ReadonlyArray<unknown> = prepared.statement.all(...encodeParameters(params))
    return all as ReadonlyArray<ReadonlyArray<unknown>>
  }

  return {
    db,
    permit,
    execute: (sql, params, transformRows) =>
      run((fiber) => {
        const result = rows(cached(sql, fiber), params, fiber)
        return transformRows === undefined ? result : transformRows(result)
      }),
    executeUnprepared: (sql, params, transformRows) =>
      run((fiber) => {
        const result = rows(freshUnlessBegin(sql, fiber), params, fiber)
        return transformRows === undefined ? result : transformRows(result)
      }),
    executeRaw: (sql, params) =>
      run((fiber) => {
        const prepared = cached(sql, fiber)
        prepared.returnsRows ??= prepared.statement.columns().length > 0
        if (prepared.returnsRows) return rows(prepared, params, fiber)
        setFlags(prepared, false, fiber.getRef(SafeIntegers))
        return prepared.statement.run(...encodeParameters(params))
      }),
    executeValues: (sql, params) => run((fiber) => values(cached(sql, fiber), params, fiber)),
    executeValuesUnprepared: (sql, params) => run((fiber) => values(fresh(sql), params, fiber)),
    executeStream: (sql, params, transformRows) =>
      Stream.unwrap(Effect.map(
        Effect.acquireRelease(
          run((fiber) => {
            // A cached statement could be started again by another query while the cursor is open.
            const prepared = fresh(sql)
            setFlags(prepared, false, fiber.getRef(SafeIntegers))
            const cursor = prepared.statement.iterate(...encodeParameters(params))
            // The first step takes the read lock.
            return { cursor, first: cursor.next() }
          }),
          ({ cursor }) =>
            Effect.sync(() => {
              // An open cursor keeps its read lock, and closing the handle has already ended it.
              if (db.isOpen) cursor.return?.()
            })
        ),
        ({ cursor, first }) => {
          let next: typeof first | undefined = first
          return Stream.fromPull(Effect.succeed(Effect.suspend((): Pull.Pull<
            Arr.NonEmptyReadonlyArray<object>,
            SqlError
          > => {
            const chunk: Array<object> = []
            try {
              // Asked once more after its end, the cursor of older Node versions runs the statement again.
              while (chunk.length < streamChunkSize) {
                next ??= cursor.next()
                if (next.done === true) break
                chunk.push(next.value)
                next = undefined
              }
            } catch (cause) {
              return Effect.fail(fromThrown(cause, "stream"))
            }
            const result: ReadonlyArray<object> = transformRows === undefined ? chunk : transformRows(chunk)
            return Arr.isReadonlyArrayNonEmpty(result) ? Effect.succeed(result) : Cause.done()
          })))
        }
      ))
  }
}

const configure = (db: DatabaseSync, options: SqliteClientConfig): void => {
  // Deno's `node:sqlite` lacks it, and never loads an extension.
  db.enableLoadExtension?.(false)
  // The header is read by the first query only, and a file that is no database should fail here.
  db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").all()
  const synchronous = options.synchronous ?? "FULL"
  db.exec(`PRAGMA synchronous = ${synchronous}`)
  // On macOS a plain fsync leaves the data in the drive's own cache. Elsewhere this pragma does nothing.
  if (synchronous === "FULL") db.exec("PRAGMA fullfsync = ON")
  if (options.disableWAL !== true && options.readonly !== true) db.exec("PRAGMA journal_mode = WAL")
}

/**
 * Creates the file of a database, closed to other users, if there is none: SQLite would leave its mode to the umask. What
 * SQLite puts beside it has the mode of the file.
 */
export const createPrivately = (filename: string): void => {
  try {
    const [, uri, query] = /^file:(?:\/\/(?:localhost)?(?=\/))?([^?#]*)\??([^#]*)/.exec(filename) ?? []
    const path = uri === undefined ? filename : decodeURIComponent(uri)
    if (path === "" || path === ":memory:" || (new URLSearchParams(query).get("mode") ?? "rwc") !== "rwc") return
    closeSync(openSync(path, "wx", 0o600))
  } catch {
    // It exists, or SQLite will say what is wrong with it.
  }
}

// How often the file is looked at; a look costs some microseconds.
const lookMillis = 1_000

/** Tells files apart; undefined if it can't be known. */
const identityOf = (path: string): string | undefined => {
  try {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false })
    return found === undefined ? "gone" : `${found.dev}:${found.ino}`
  } catch {
    return undefined
  }
}

/**
 * Warns once if another file is in the place of an open database, or none: SQLite goes on with the one that it has opened,
 * which no name leads to any more.
 */
export const warnIfReplaced = (db: DatabaseSync): Effect.Effect<void, never, Scope.Scope> =>
  Effect.suspend(() => {
    const path = db.location()
    if (path === null) return Effect.void
    const opened = identityOf(path)
    const look = Effect.callback<string | undefined>((resume) => {
      // The file is the system's, and so is the time; and it keeps no process alive.
      const timer = setTimeout(() => resume(Effect.sync(() => identityOf(path))), lookMillis).unref()
      return Effect.sync(() => clearTimeout(timer))
    })
    return look.pipe(
      Effect.repeat({ until: (identity) => identity !== undefined && identity !== opened }),
      Effect.flatMap((identity) =>
        Effect.logWarning(
          `The database file ${path} was ${
            identity === "gone" ? "deleted" : "replaced"
          } while it was open: what this ` +
            `process writes is lost when it ends. Put the right file in its place, and restart this process`
        )
      ),
      Effect.withTracerEnabled(false),
      Effect.forkScoped
    )
  })

/** Opens the database of `options` and closes it with the scope. */
export const open = (options: SqliteClientConfig): Effect.Effect<SqliteConnection, SqlError, Scope.Scope> => {
  const misuse = problemOf(options)
  if (misuse !== undefined) return Effect.fail(misconfigured(misuse))
  const failed = (cause: unknown) => openError(cause, options.filename, options.readonly === true)
  const openHandle = Effect.try({
    try: () => {
      if (options.readonly !== true) createPrivately(options.filename)
      return new DatabaseSync(options.filename, {
        readOnly: options.readonly === true,
        // Node refuses to open a database that allows extensions while its permission model is on.
        allowExtension: process.permission === undefined,
        enableForeignKeyConstraints: true,
        // SQLite's own wait would block the event loop.
        timeout: 0
      })
    },
    catch: failed
  })
  return Effect.map(
    Effect.acquireRelease(
      Effect.flatMap(openHandle, (db) => {
        const permit = Semaphore.makeUnsafe(1)
        const attempt = LockWaits.make(db, permit, Duration.toMillis(options.busyTimeout ?? "5 seconds"))
        return permit.withPermit(attempt("open", () => configure(db, options))).pipe(
          Effect.mapError((error) => failed(error.reason.cause)),
          Effect.onError(() => Effect.sync(() => db.close())),
          Effect.as({ db, permit, attempt })
        )
      }),
      ({ db }) => Effect.sync(() => db.close())
    ),
    ({ attempt, db, permit }) => make(db, permit, options, attempt)
  )
}
