/**
 * The configuration of a `SqliteClient`, in code and in variables.
 */
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"

/**
 * Configures a `SqliteClient`.
 *
 * @category models
 * @since 0.1.0
 */
export interface SqliteClientConfig {
  /** A path, a `file:` URI, or `:memory:`. The file is created if it is absent, its directory is not. */
  readonly filename: string

  /** Refuses writes and leaves the journal mode as it is. The file must exist. Default `false`. */
  readonly readonly?: boolean | undefined

  /** How many prepared statements are kept, least recently used leaving first. Default 200; 0 keeps none. */
  readonly prepareCacheSize?: number | undefined

  /** How long a prepared statement is kept. Without it only `prepareCacheSize` bounds the cache. */
  readonly prepareCacheTTL?: Duration.Input | undefined

  /** Leaves the journal mode of the file as it is instead of switching it to WAL. Default `false`. */
  readonly disableWAL?: boolean | undefined

  /** Attributes added to the spans of statements and transactions. */
  readonly spanAttributes?: Record<string, unknown> | undefined

  /** Renames the columns of results. */
  readonly transformResultNames?: ((str: string) => string) | undefined

  /** Renames the identifiers in statements. */
  readonly transformQueryNames?: ((str: string) => string) | undefined

  /**
   * How far a commit waits for the disk. Default `"FULL"`.
   *
   * With WAL, `"FULL"` keeps every committed transaction through a power cut. `"NORMAL"` may lose the last ones but
   * keeps the file sound. `"OFF"` leaves all to the operating system: a power cut can corrupt the file.
   */
  readonly synchronous?: "FULL" | "NORMAL" | "OFF" | undefined

  /**
   * How long a statement waits for another connection's lock before it fails with a retryable `LockTimeoutError`.
   * Default `"5 seconds"`. The event loop turns meanwhile, and so do the client's other statements, unless the one that
   * waits is part of a transaction that has begun.
   */
  readonly busyTimeout?: Duration.Input | undefined
}

const options: Readonly<Record<keyof SqliteClientConfig, true>> = {
  filename: true,
  readonly: true,
  prepareCacheSize: true,
  prepareCacheTTL: true,
  disableWAL: true,
  spanAttributes: true,
  transformResultNames: true,
  transformQueryNames: true,
  synchronous: true,
  busyTimeout: true
}

/** Says what is wrong with a configuration of a host without a compiler, or nothing. */
export const problemOf = (config: SqliteClientConfig): string | undefined => {
  const { filename, ...others } = config ?? {}
  const unknown = Object.keys(others).find((name) => !Object.hasOwn(options, name))
  return typeof filename !== "string" || filename === ""
    ? "`filename` must be the path of a database file, such as ./app.db, or :memory:"
    : unknown === undefined
    ? undefined
    : `\`${unknown}\` is not an option; these are: ${Object.keys(options).join(", ")}`
}

/** Says in the error of a variable what it must be. */
const expecting = (expected: string) => <A>(config: Config.Config<A>): Config.Config<A> =>
  Config.orElse(config, ({ cause }) =>
    Config.fail(
      cause._tag === "SchemaError"
        ? new Schema.SchemaError(new SchemaIssue.InvalidValue({ message: expected }))
        : cause
    ))

const optional = <A>(config: Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config), Option.getOrUndefined)

/**
 * Reads the configuration from variables: `SALLYPORT_SQLITE_FILENAME`, which must be set, `SALLYPORT_SQLITE_SYNCHRONOUS` and
 * `SALLYPORT_SQLITE_BUSY_TIMEOUT`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const config: Config.Config<SqliteClientConfig> = Config.all({
  filename: Config.NonEmptyString("SALLYPORT_SQLITE_FILENAME").pipe(
    expecting("SALLYPORT_SQLITE_FILENAME is not set, or empty; set it to the path of a database file, such as ./app.db")
  ),
  synchronous: optional(Config.Literals(["FULL", "NORMAL", "OFF"], "SALLYPORT_SQLITE_SYNCHRONOUS")).pipe(
    expecting("SALLYPORT_SQLITE_SYNCHRONOUS must be one of FULL, NORMAL, OFF")
  ),
  busyTimeout: optional(Config.Duration("SALLYPORT_SQLITE_BUSY_TIMEOUT")).pipe(
    expecting("SALLYPORT_SQLITE_BUSY_TIMEOUT must be a duration, such as 5 seconds")
  )
})
