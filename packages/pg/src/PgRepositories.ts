/**
 * Provides every repository of a backend on PostgreSQL, with wake-ups over `LISTEN` and `NOTIFY`, as one layer.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import type { Repositories } from "@sallyport/core/Repositories"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Migrations from "@sallyport/core/sql/Migrations"
import * as PgWakeUps from "./PgWakeUps.ts"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"

/**
 * Provides all repositories with tables of a given prefix, after bringing the tables up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Migrations.TableOptions & { readonly wakeUps?: PgWakeUps.Options | undefined }
): Layer.Layer<Repositories, Migrations.MigrationsError, SqlClient.SqlClient | PgClient> =>
  Layer.provide(SqlRepositories.layerWith(options), PgWakeUps.layerWith(options.wakeUps ?? {}))

/**
 * Provides all repositories on the ambient `PgClient`, after bringing the tables up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Repositories, Migrations.MigrationsError, SqlClient.SqlClient | PgClient> = layerWith(
  {}
)
