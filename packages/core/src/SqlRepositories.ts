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
  options?: Migrations.TableOptions
): Layer.Layer<Repositories, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.mergeAll(
    SqlAccessRepository.layerWith(options),
    SqlReplayRepository.layerWith(options),
    SqlRunEventRepository.layerWith(options)
  )

/**
 * Provides all repositories on the ambient `SqlClient`, SQLite or PostgreSQL, after bringing the tables up to date.
 *
 * **Example** (Keeping everything in SQLite)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { BootstrapCredentialService, SecretStore, SqlRepositories } from "@sallyport/core"
 * import { SqliteClient } from "@sallyport/sqlite-node"
 * import { Console, Effect, Layer } from "effect"
 *
 * const Pairing = BootstrapCredentialService.layer.pipe(
 *   Layer.provide([SqlRepositories.layer, SecretStore.layerMemory]),
 *   Layer.provide([SqliteClient.layer({ filename: ":memory:" }), NodeCrypto.layer])
 * )
 *
 * const program = Effect.gen(function*() {
 *   const pairing = yield* BootstrapCredentialService.BootstrapCredentialService
 *   yield* pairing.issue({ issuedBy: "operator", scopes: ["runs:read"], label: "phone" })
 *   const links = yield* pairing.list()
 *   yield* Console.log(links.map(({ label }) => label))
 *   // => [ 'phone' ]
 * })
 *
 * Effect.runPromise(Effect.provide(program, Pairing))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Repositories, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
