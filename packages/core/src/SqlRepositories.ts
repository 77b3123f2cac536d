/**
 * Every repository of a backend on SQL, as one layer. A relay has two more, with layers of their own in
 * `@sallyport/connect`.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import * as SqlAccessRepository from "./access/SqlAccessRepository.ts"
import * as SqlReplayRepository from "./access/SqlReplayRepository.ts"
import type { Repositories } from "./Repositories.ts"
import * as SqlRunEventRepository from "./runs/SqlRunEventRepository.ts"
import type * as Migrations from "./sql/Migrations.ts"

/**
 * Provides all repositories with tables of a given prefix, after bringing the tables up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Migrations.TableOptions
): Layer.Layer<Repositories, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.mergeAll(
    SqlAccessRepository.layerWith(options),
    SqlReplayRepository.layerWith(options),
    SqlRunEventRepository.layerWith(options)
  )

/**
 * Provides all repositories on the ambient `SqlClient`, SQLite or PostgreSQL, after bringing the tables up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Repositories, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith({})
