import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** Creates a directory that goes away with the scope. */
export const tempDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sqlite-node-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** Names a database file that does not exist yet, in a directory of its own. */
export const tempFile: Effect.Effect<string, never, Scope.Scope> = Effect.map(
  tempDirectory,
  (directory) => join(directory, "test.db")
)

/** Makes a client without its layer, so that one test can hold several. */
export const connect = (
  config: SqliteClient.SqliteClientConfig
): Effect.Effect<SqliteClient.SqliteClient, SqlError, Scope.Scope> =>
  Effect.provide(SqliteClient.make(config), Reactivity.layer)
