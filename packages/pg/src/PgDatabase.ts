/**
 * Connects to the PostgreSQL database that a URL names.
 *
 * It is `PgClient` of `@effect/sql-pg`, whose URL is checked first: a malformed one is told without showing it, because it
 * may hold a password. A host that needs more of `PgClient` provides that itself.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

/**
 * Lists the options of a database.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The address, of the form `postgres://user:password@host:5432/database`. */
  readonly url: Redacted.Redacted
  /** How many connections the pool opens at most. Default 10. */
  readonly maxConnections?: number | undefined
  /** Under which name the connections show up in PostgreSQL. Default `sallyport`. */
  readonly applicationName?: string | undefined
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
 * Returns the host and the database that a URL names, without user and password. None if it is no URL of PostgreSQL.
 *
 * @category getters
 * @since 0.1.0
 */
export const nameOf = (url: Redacted.Redacted): Option.Option<string> => {
  const parsed = URL.parse(Redacted.value(url))
  return parsed !== null && /^postgres(ql)?:$/.test(parsed.protocol) && parsed.hostname !== ""
    ? Option.some(`postgres://${parsed.host}${parsed.pathname}`)
    : Option.none()
}

const settings = ServiceOptions.make({
  prefix: "SALLYPORT_DATABASE",
  invalid: (problem) => new InvalidPgDatabaseOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(
    read: ServiceOptions.Reader<Options, E>
  ): Effect.fn.Return<PgClient.PgPoolConfig, E> {
    return {
      url: yield* read.secret(
        "url",
        "an address of the form postgres://user:password@host:5432/database",
        (text) => Option.isSome(nameOf(Redacted.make(text)))
      ),
      maxConnections: yield* read.count("maxConnections", 10),
      applicationName: yield* read.text("applicationName", "sallyport")
    }
  })
})

const provide = <E>(config: Effect.Effect<PgClient.PgPoolConfig, E>) => Layer.unwrap(Effect.map(config, PgClient.layer))

/**
 * Provides `PgClient` and `SqlClient` on a database. Fails if the options cannot work.
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
 * set, `SALLYPORT_DATABASE_MAX_CONNECTIONS` and `SALLYPORT_DATABASE_APPLICATION_NAME`.
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
 * // => The options of the database cannot work: SALLYPORT_DATABASE_URL must be an address of the form postgres://user:password@host:5432/database
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient,
  Config.ConfigError | InvalidPgDatabaseOptions | SqlError
> = provide(settings.fromConfig)
