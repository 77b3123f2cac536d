import {
  AuthorizationError,
  classifySqliteError,
  SerializationError,
  SqlError,
  type SqlErrorReason,
  SqlSyntaxError,
  UniqueViolation,
  UnknownError
} from "effect/sql/SqlError"

/** What the driver was doing when SQLite refused. It becomes the `operation` of the reason. */
export type Operation = "open" | "prepare" | "execute" | "stream" | "backup" | "loadExtension"

const failure: Record<Operation, string> = {
  open: "Failed to open database",
  prepare: "Failed to prepare statement",
  execute: "Failed to execute statement",
  stream: "Failed to stream statement",
  backup: "Failed to back up database",
  loadExtension: "Failed to load extension"
}

const SQLITE_ERROR = 1
const SQLITE_BUSY = 5
const SQLITE_BUSY_SNAPSHOT = 517
const SQLITE_LOCKED = 6
const SQLITE_READONLY = 8
const SQLITE_CORRUPT = 11
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26

// A primary key (1555) and a rowid (2579) are unique constraints under other codes; PostgreSQL reports all three alike.
const uniqueCodes = new Set([2067, 1555, 2579])
const uniquePrefix = "UNIQUE constraint failed: "

// A cached statement is compiled again when the schema has changed, so these can also surface while it runs.
const missingObject = /^no such (?:table|column|index|view|function|collation sequence|module)\b/

const errcodeOf = (cause: unknown): number | undefined =>
  typeof cause === "object" && cause !== null && "errcode" in cause && typeof cause.errcode === "number"
    ? cause.errcode
    : undefined

/** Tells whether a statement was refused because of another connection's lock (`SQLITE_BUSY` and its variants). */
export const isBusy = ({ reason }: SqlError): boolean => {
  const errcode = errcodeOf(reason.cause)
  return errcode !== undefined && (errcode & 0xff) === SQLITE_BUSY
}

/** Tells whether a transaction cannot write because another connection has written since it began to read. */
export const isStale = ({ reason }: SqlError): boolean => errcodeOf(reason.cause) === SQLITE_BUSY_SNAPSHOT

const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)

/** Finds the reason for an error thrown by `node:sqlite`. */
export const classify = (
  cause: unknown,
  operation: Operation,
  message: string = `${failure[operation]}: ${messageOf(cause)}`
): SqlErrorReason => {
  const props = { cause, message, operation }
  const errcode = errcodeOf(cause)
  if (errcode === undefined) return classifySqliteError(cause, props)
  if (uniqueCodes.has(errcode)) {
    const text = messageOf(cause)
    const constraint = text.startsWith(uniquePrefix) ? text.slice(uniquePrefix.length) : "unknown"
    return new UniqueViolation({ ...props, constraint })
  }
  if ((errcode & 0xff) === SQLITE_READONLY) return new AuthorizationError(props)
  if (errcode === SQLITE_BUSY_SNAPSHOT) return new SerializationError(props)
  // At preparation the generic code means that the text could not be compiled. Later it means many things.
  if (errcode === SQLITE_ERROR && (operation === "prepare" || missingObject.test(messageOf(cause)))) {
    return new SqlSyntaxError(props)
  }
  // `node:sqlite` keeps SQLite's code in `errcode`, and the classifier reads `errno`.
  return classifySqliteError(typeof cause === "object" ? Object.assign(cause ?? {}, { errno: errcode }) : cause, props)
}

/** Turns anything thrown while `operation` ran into a `SqlError`; a `SqlError` passes through unchanged. */
export const fromThrown = (cause: unknown, operation: Operation): SqlError =>
  cause instanceof SqlError ? cause : new SqlError({ reason: classify(cause, operation) })

const openAdvice = (errcode: number | undefined, readonly: boolean): string => {
  switch (errcode === undefined ? undefined : errcode & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "Another connection holds it: try again later, or raise `busyTimeout`."
    case SQLITE_READONLY:
      return "It cannot be written: grant this process write access, or open it with `readonly: true`."
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "Its content is not a sound SQLite database: restore it from a backup, or choose another file."
    case SQLITE_CANTOPEN:
      return readonly
        ? "Check that the file exists and that this process may read it."
        : "Check that its directory exists and that this process may write to both."
    default:
      return "Check `filename` and the state of the disk."
  }
}

/** Creates the error of a configuration with which no database can be opened. */
export const misconfigured = (problem: string): SqlError => {
  const message = `${failure.open}: ${problem}`
  return new SqlError({ reason: new UnknownError({ cause: new Error(message), message, operation: "open" }) })
}

/** Creates the error of a database that could not be opened, naming the file and the remedy. */
export const openError = (cause: unknown, filename: string, readonly: boolean): SqlError =>
  new SqlError({
    reason: classify(
      cause,
      "open",
      `${failure.open} ${JSON.stringify(filename)}: ${messageOf(cause).replace(/\.$/, "")}. ${
        openAdvice(errcodeOf(cause), readonly)
      }`
    )
  })
