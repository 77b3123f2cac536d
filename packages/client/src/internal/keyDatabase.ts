/**
 * Keeps one value in a database of IndexedDB. Each operation is one transaction, and is complete when the browser
 * reports it.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"

/** Reports that the browser's database failed. */
export class DatabaseFailed extends Data.TaggedError("DatabaseFailed")<{
  readonly problem: string
  readonly cause: unknown
}> {}

export interface Place {
  readonly database: string
  readonly name: string
}

const store = "keys"

/** How long to wait for the browser: some browsers never answer if storage is not available. */
const patience = "10 seconds"

const problemOf = (cause: unknown): string => {
  const name = cause instanceof DOMException ? cause.name : undefined
  switch (name) {
    case "QuotaExceededError":
      return "the browser has no room left for this site"
    case "SecurityError":
    case "InvalidStateError":
      return "the browser keeps nothing for this page, as in a private window or a sandboxed frame"
    case "VersionError":
      return "a later version of this program has changed the database"
    default:
      return `the browser's database failed${name === undefined ? "" : ` (${name})`}`
  }
}

const attempt = <A>(run: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, DatabaseFailed> =>
  Effect.tryPromise({ try: run, catch: (cause) => new DatabaseFailed({ problem: problemOf(cause), cause }) }).pipe(
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () =>
        Effect.fail(new DatabaseFailed({ problem: "the browser's database does not answer", cause: undefined }))
    })
  )

const open = ({ database }: Place) =>
  Effect.acquireRelease(
    attempt((signal) =>
      new Promise<IDBDatabase>((resolve, reject) => {
        const request = indexedDB.open(database, 1)
        request.addEventListener("upgradeneeded", () => request.result.createObjectStore(store))
        request.addEventListener("success", () => signal.aborted ? request.result.close() : resolve(request.result))
        request.addEventListener("error", () => reject(request.error))
      })
    ),
    (database) => Effect.sync(() => database.close()),
    { interruptible: true }
  )

/** Runs one transaction. `work` sets the result, which is returned when the transaction is complete. */
const transact = <A>(
  place: Place,
  mode: IDBTransactionMode,
  work: (keys: IDBObjectStore, done: (value: A) => void) => void
): Effect.Effect<A, DatabaseFailed> =>
  Effect.scoped(Effect.flatMap(open(place), (database) =>
    attempt((signal) =>
      new Promise<A>((resolve, reject) => {
        // A returned key must be on the disk: otherwise the next start would make another key, which the owner never
        // approved.
        const transaction = database.transaction(store, mode, { durability: "strict" })
        let result: { readonly value: A } | undefined
        transaction.addEventListener(
          "complete",
          () => result === undefined ? reject(new Error("There is no result")) : resolve(result.value)
        )
        transaction.addEventListener("abort", () => reject(transaction.error))
        signal.addEventListener("abort", () => transaction.abort(), { once: true })
        work(transaction.objectStore(store), (value) => {
          result = { value }
        })
      })
    )))

/** Returns the value, or undefined if there is none. */
export const get = (place: Place): Effect.Effect<unknown, DatabaseFailed> =>
  transact<unknown>(place, "readonly", (keys, done) => {
    const request = keys.get(place.name)
    request.addEventListener("success", () => done(request.result))
  })

/**
 * Stores a value unless there is one, and returns the stored value. Of concurrent callers exactly one stores its value,
 * and all get it.
 */
export const getOrPut = (place: Place, value: unknown): Effect.Effect<unknown, DatabaseFailed> =>
  transact<unknown>(place, "readwrite", (keys, done) => {
    const request = keys.get(place.name)
    request.addEventListener("success", () => {
      if (request.result === undefined) keys.put(value, place.name)
      done(request.result === undefined ? value : request.result)
    })
  })

/** Removes the value, if there is one. */
export const remove = (place: Place): Effect.Effect<void, DatabaseFailed> =>
  transact<void>(place, "readwrite", (keys, done) => {
    keys.delete(place.name)
    done()
  })
