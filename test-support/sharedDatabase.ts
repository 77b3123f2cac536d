/**
 * Describes a database that several processes share.
 */
import * as PgDatabase from "@sallyport/pg/PgDatabase"
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
    /** Settings of its connections, as in `-c statement_timeout=1s`. */
    readonly options?: string | undefined
  }

const urlOf = (
  { database, host, options = "", password, port, username }: Exclude<SharedDatabase, { readonly filename: string }>
) =>
  Redacted.make(`postgres://${username}:${password}@${host}:${port}/${database}?options=${encodeURIComponent(options)}`)

/** Provides a client of the database. */
export const clientOf = (database: SharedDatabase, maxConnections = 4) =>
  "filename" in database
    ? SqliteClient.layer({ ...database, busyTimeout: "30 seconds" })
    : PgDatabase.layer({ url: urlOf(database), maxConnections })
