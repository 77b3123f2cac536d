/**
 * Every repository of a backend on SQL, as one layer. A relay has two more, `SqlRelayEnvironmentRepository` and
 * `SqlRelayProofRepository`, with layers of their own.
 */
import type { Repositories } from "@sallyport/core/Repositories"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Migrations from "./Migrations.ts"
import * as SqlAccessFeedRepository from "./SqlAccessFeedRepository.ts"
import * as SqlBootstrapCredentialRepository from "./SqlBootstrapCredentialRepository.ts"
import * as SqlConnectClientRepository from "./SqlConnectClientRepository.ts"
import * as SqlReplayRepository from "./SqlReplayRepository.ts"
import * as SqlRunEventRepository from "./SqlRunEventRepository.ts"
import * as SqlScopedCredentialRepository from "./SqlScopedCredentialRepository.ts"
import * as SqlSessionCredentialRepository from "./SqlSessionCredentialRepository.ts"

/** Provides all repositories with tables of a given prefix, after bringing the tables up to date. */
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

/** Provides all repositories on the ambient `SqlClient`, SQLite or PostgreSQL, after bringing the tables up to date. */
export const layer: Layer.Layer<Repositories, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith({})
