/**
 * Every repository of a backend on SQL, as one layer. A relay has two more, `SqlRelayEnvironmentRepository` and
 * `SqlRelayProofRepository`, with layers of their own.
 */
import type { Repositories } from "@sallyport/core/Repositories"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Migrations from "./sql/Migrations.ts"
import * as SqlAccessFeedRepository from "./access/SqlAccessFeedRepository.ts"
import * as SqlBootstrapCredentialRepository from "./access/SqlBootstrapCredentialRepository.ts"
import * as SqlConnectClientRepository from "./access/SqlConnectClientRepository.ts"
import * as SqlReplayRepository from "./access/SqlReplayRepository.ts"
import * as SqlRunEventRepository from "./runs/SqlRunEventRepository.ts"
import * as SqlScopedCredentialRepository from "./access/SqlScopedCredentialRepository.ts"
import * as SqlSessionCredentialRepository from "./access/SqlSessionCredentialRepository.ts"

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
    SqlBootstrapCredentialRepository.layerWith(options),
    SqlSessionCredentialRepository.layerWith(options),
    SqlConnectClientRepository.layerWith(options),
    SqlScopedCredentialRepository.layerWith(options),
    SqlReplayRepository.layerWith(options),
    SqlRunEventRepository.layerWith(options)
  ).pipe(Layer.provideMerge(SqlAccessFeedRepository.layerWith(options)))

/**
 * Provides all repositories on the ambient `SqlClient`, SQLite or PostgreSQL, after bringing the tables up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Repositories, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith({})
