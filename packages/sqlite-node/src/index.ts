/**
 * Provides an Effect `SqlClient` over the `node:sqlite` module that ships with Node.
 */
export * as SqliteClient from "./SqliteClient.ts"
