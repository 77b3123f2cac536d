/**
 * Describes a database that several processes share.
 */
import { PgClient } from "@effect/sql-pg"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Redacted from "effect/Redacted"

/** Says where a process finds the database. It is passed to the process as JSON. */
export type SharedDatabase =
  | { readonly filename: string }
  | {
    readonly host: string
    readonly port: number
    readonly username: string
    readonly password: string
    readonly database: string
  }

/** Provides a client of the database. */
export const clientOf = (database: SharedDatabase, maxConnections = 4) =>
  "filename" in database
    ? SqliteClient.layer({ ...database, busyTimeout: "30 seconds" })
    : PgClient.layer({ ...database, password: Redacted.make(database.password), maxConnections })
