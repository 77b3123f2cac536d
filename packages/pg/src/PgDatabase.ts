/**
 * Connects to the PostgreSQL database that a URL names.
 *
 * It is `PgClient` of `@effect/sql-pg`, whose URL is checked first: a malformed one is told without showing it, because it
 * may hold a password. A host that needs more of `PgClient` provides that itself.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import * as Transactions from "@sallyport/core/sql/Transactions"
import type * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as DatabaseCheck from "./internal/databaseCheck.ts"
import * as DatabaseUrl from "./internal/databaseUrl.ts"

export { UnusableDatabase } from "./internal/databaseCheck.ts"

/**
 * Lists the options of a database.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * The address, of the form `postgres://user:password@host:5432/database`, or `postgres:///database?host=/directory` for a
   * socket. `docs/persistence.md` lists the parameters that it can have.
   */
  readonly url: Redacted.Redacted
  /** How many connections the pool opens at most. Default 10. */
  readonly maxConnections?: number | undefined
  /** Under which name the connections show up in PostgreSQL. Default `sallyport`. */
  readonly applicationName?: string | undefined
  /**
   * Whether connections keep statements prepared. A pooler that hands connections out by transaction may lose them. Default
   * what the URL says with `prepare=`, otherwise true.
   */
  readonly prepare?: boolean | undefined
}

/**
 * Reports options of a database that cannot work, while the layer is built. The URL is not shown.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidPgDatabaseOptions extends Schema.TaggedError<InvalidPgDatabaseOptions>()(
  "InvalidPgDatabaseOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the database cannot work: ${this.problem}`
  }
}

/**
 * Returns the server and the database that a URL names, without user and password. None if it is no URL that
 * {@link layer} takes.
 *
 * @category getters
 * @since 0.1.0
 */
export const nameOf = (url: Redacted.Redacted): Option.Option<string> =>
  Option.map(Result.getSuccess(DatabaseUrl.read(Redacted.value(url))), ({ name }) => name)

const settings = ServiceOptions.make({
  prefix: "SALLYPORT_DATABASE",
  invalid: (problem) => new InvalidPgDatabaseOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(
    read: ServiceOptions.Reader<Options, E>
  ): Effect.fn.Return<PgClient.PgPoolConfig, E> {
    const written = yield* read.secret("url", DatabaseUrl.form, (text) => text !== "")
    const { prepare, url } = yield* Result.match(DatabaseUrl.read(Redacted.value(written)), {
      onSuccess: Effect.succeed,
      onFailure: (problem) => read.refuse(`${read.name("url")} ${problem}`)
    })
    const applicationName = yield* read.text("applicationName", "sallyport")
    return {
      url: Redacted.make(url, { label: read.name("url") }),
      maxConnections: yield* read.count("maxConnections", 10),
      // A connection that rests in the pool is found dead before a request takes it.
      keepAlive: "10 seconds",
      // The driver prefers this to the URL's.
      ...(yield* read.has("applicationName")) || !/[?&]application_name=/.test(url) ? { applicationName } : {},
      prepare: yield* read.flag("prepare", prepare ?? true)
    }
  })
})

/**
 * What the server is told at the start of each connection, so that it gives up a process that has stopped or vanished: a
 * statement whose caller was given its error long ago, the locks of a transaction in which nothing comes any more, and a
 * connection on which nothing is acknowledged.
 */
const startupParameters = (deadline: Duration.Duration) => ({
  statement_timeout: String(2 * Math.ceil(Duration.toMillis(deadline))),
  idle_in_transaction_session_timeout: "30s",
  tcp_keepalives_idle: "30",
  tcp_keepalives_interval: "10",
  tcp_keepalives_count: "3"
})

/**
 * Adds these settings, without those that the URL has, unless the server refuses a connection for them. A pooler may refuse
 * one that comes with settings that it does not know, as PgBouncer does. A server that takes no connection at all, or that
 * began to meanwhile, says nothing about them.
 */
const withStartupParameters = Effect.fnUntraced(function*(config: PgClient.PgPoolConfig) {
  const url = config.url === undefined ? "" : Redacted.value(config.url)
  const parameters = startupParameters(yield* Transactions.Deadline)
  const ours = Object.entries(parameters).filter(([name]) => !url.includes(name))
  const told = { ...config, startupParameters: Object.fromEntries(ours) }
  const takes = (tried: PgClient.PgPoolConfig) => Effect.isSuccess(Effect.scoped(PgConnection.make(tried)))
  if ((yield* takes(told)) || !(yield* takes(config)) || (yield* takes(told))) return told
  yield* Effect.logInfo(
    `The database refuses connections with settings, as a pooler does. Set these with ALTER ROLE: ` +
      ours.map(([name, value]) => `${name} = ${value}`).join(", ")
  )
  return config
})

const provide = <E>(config: Effect.Effect<PgClient.PgPoolConfig, E>) =>
  Layer.unwrap(Effect.map(Effect.flatMap(config, withStartupParameters), PgClient.layer))

/**
 * Provides `PgClient` and `SqlClient` on a database. Fails if the options cannot work.
 *
 * **Details**
 *
 * Makes a connection to find out whether the server takes settings with it. One that cannot be reached now is no failure. The
 * server gives up a statement after twice the `Deadline` of an operation, if the URL's `options` do not say otherwise.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, InvalidPgDatabaseOptions | SqlError> =>
  provide(settings.fromObject(options))

/**
 * Provides `PgClient` and `SqlClient` on the database that the configuration names: `SALLYPORT_DATABASE_URL`, which must be
 * set, `SALLYPORT_DATABASE_MAX_CONNECTIONS`, `SALLYPORT_DATABASE_APPLICATION_NAME` and `SALLYPORT_DATABASE_PREPARE`.
 *
 * **Example** (Refusing to start without a database)
 *
 * ```ts
 * import { PgDatabase } from "@sallyport/pg"
 * import { ConfigProvider, Console, Effect, Layer } from "effect"
 *
 * const Environment = ConfigProvider.layer(ConfigProvider.fromEnvRecord({}))
 *
 * const program = Effect.flip(Effect.scoped(Layer.build(Layer.provide(PgDatabase.layerConfig, Environment))))
 *
 * Effect.runPromise(Effect.flatMap(program, ({ message }) => Console.log(message)))
 * // => The options of the database cannot work: SALLYPORT_DATABASE_URL is not set; set it to an address of the form postgres://user:password@host:5432/database
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient,
  Config.ConfigError | InvalidPgDatabaseOptions | SqlError
> = provide(settings.fromConfig)

/**
 * Looks whether the ambient database can be used, and fails with what is wrong and what to do: a server that is not
 * reached or refuses the user, a server older than PostgreSQL 13, a replica, a database that is not in UTF-8, a user who
 * may not create tables. It changes nothing. A host provides it below its repositories, to refuse to start.
 *
 * @category combinators
 * @since 0.1.0
 */
export const check: Effect.Effect<void, DatabaseCheck.UnusableDatabase, PgClient.PgClient> = Effect.flatMap(
  PgClient.PgClient,
  DatabaseCheck.check
)
