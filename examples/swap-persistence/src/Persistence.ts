/**
 * The two places where this program keeps its state. They provide the same services, so the rest does not know which
 * one it uses.
 */
import { NodeCrypto, NodeServices } from "@effect/platform-node"
import { Repositories, SecretStore, SqlRepositories } from "@sallyport/core"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Layer } from "effect"

// #region persistence
/** Keeps everything in memory: for tests, and for servers that forget. */
export const layerMemory = Layer.merge(Repositories.layerMemory, SecretStore.layerMemory).pipe(
  Layer.provideMerge(NodeCrypto.layer)
)

/** Keeps everything in a directory: rows in a SQLite file, secrets in files that only this user can read. */
export const layerSqlite = (directory: string) =>
  Layer.merge(
    SqlRepositories.layer.pipe(Layer.provide(SqliteClient.layer({ filename: `${directory}/state.db` }))),
    SecretStore.layerFileSystem(`${directory}/secrets`)
  ).pipe(
    Layer.provideMerge([NodeCrypto.layer, NodeServices.layer])
  )
// #endregion persistence
