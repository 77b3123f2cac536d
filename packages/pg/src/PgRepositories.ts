/**
 * Provides every repository of a backend on PostgreSQL, with wake-ups over `LISTEN` and `NOTIFY`, as one layer. With them
 * comes the `Clock` of {@link SqlClock.layer}: what is provided with the repositories, the services and the server, has the
 * database's time of day, so that nodes whose own clocks are minutes apart agree on what has ended.
 */
import * as Input from "@sallyport/core/Input"
import type { PgClient } from "@effect/sql-pg/PgClient"
import type { Repositories } from "@sallyport/core/Repositories"
import type * as Migrations from "@sallyport/core/sql/Migrations"
import * as SqlClock from "@sallyport/core/sql/SqlClock"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import type * as Config from "effect/Config"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as PgWakeUps from "./PgWakeUps.ts"

/**
 * Lists the options of the repositories; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Migrations.TableOptions {
  readonly wakeUps?: PgWakeUps.Options | undefined
}

type Requirements = SqlClient.SqlClient | PgClient

/**
 * Provides all repositories with tables of a given prefix, after bringing the tables up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options
): Layer.Layer<
  Repositories,
  Migrations.MigrationsError | SqlError | PgWakeUps.InvalidPgWakeUpsOptions,
  Requirements
> => {
  Input.demand("PgRepositories.layerWith", { prefix: Input.any, wakeUps: Input.any }, options)
  return Layer.merge(
    Layer.provide(SqlRepositories.layerWith({ prefix: options.prefix }), PgWakeUps.layerWith(options.wakeUps ?? {})),
    SqlClock.layer
  )
}

/**
 * Provides all repositories on the ambient `PgClient`, after bringing the tables up to date, with the options of
 * `PgWakeUps.layerConfig`. `PgDatabase.layerConfig` connects to the database that the configuration names.
 *
 * **Example** (Refusing to start with a wrong variable)
 *
 * ```ts
 * import { PgDatabase, PgRepositories } from "@sallyport/pg"
 * import { ConfigProvider, Console, Effect, Layer } from "effect"
 *
 * const Environment = ConfigProvider.layer(ConfigProvider.fromEnvRecord({
 *   SALLYPORT_DATABASE_URL: "postgres://localhost/sallyport",
 *   SALLYPORT_WAKE_UPS_HEARTBEAT: "often"
 * }))
 *
 * const Store = PgRepositories.layerConfig.pipe(Layer.provide(PgDatabase.layerConfig), Layer.provide(Environment))
 *
 * const program = Effect.flip(Effect.scoped(Layer.build(Store)))
 *
 * Effect.runPromise(Effect.flatMap(program, ({ message }) => Console.log(message)))
 * // => The options of wake-ups cannot work: SALLYPORT_WAKE_UPS_HEARTBEAT must be a duration of at least 1 millisecond, such as 2 seconds, not "often"
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  Repositories,
  Migrations.MigrationsError | SqlError | PgWakeUps.InvalidPgWakeUpsOptions | Config.ConfigError,
  Requirements
> = Layer.merge(Layer.provide(SqlRepositories.layer, PgWakeUps.layerConfig), SqlClock.layer)

/**
 * Provides all repositories on the ambient `PgClient`, after bringing the tables up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Repositories, Migrations.MigrationsError | SqlError, Requirements> = Layer.merge(
  Layer.provide(SqlRepositories.layer, PgWakeUps.layer),
  SqlClock.layer
)
