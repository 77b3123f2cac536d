/**
 * Why a database cannot be used, and what to do, in a sentence for an operator.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"

/**
 * Reports why a database cannot be used, and what to do.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnusableDatabase extends Schema.TaggedError<UnusableDatabase>()("UnusableDatabase", {
  problem: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return this.problem
  }
}

/** The oldest server that has all that the statements use. */
const oldestVersion = 13

const pooler = "a pooler that hands connections out by transaction needs prepare=false in the URL"

/** What to say of a code of PostgreSQL or of the system, before and after what was answered. */
const sentences: Readonly<Record<string, readonly [fault: string, remedy: string]>> = {
  "28P01": ["The server refuses the user or the password", "correct them in the URL"],
  "28000": [
    "The server does not let this user in",
    "correct the user, or allow it in the server's pg_hba.conf; if it misses encryption, add sslmode=require to the URL"
  ],
  "3D000": ["The server has no such database", "create it with CREATE DATABASE, or correct its name in the URL"],
  "3F000": ["There is no schema for the tables", "create the schema that search_path names"],
  "42501": ["The user lacks a right", "grant it, or use a user who has it"],
  "53300": ["The server takes no more connections", "close some, or raise max_connections or the limit of the user"],
  "57P03": ["The server is starting or stopping", "start again when it is ready"],
  "57P01": ["The server is stopping", "start again when it is back"],
  "25006": ["The database cannot be written", "name the primary server, not a replica"],
  "26000": ["A prepared statement was lost", pooler],
  "42P05": ["A prepared statement is another's", pooler],
  "08P01": [
    "The server does not take this connection",
    "a pooler must know the database, and the settings in options="
  ],
  ECONNREFUSED: ["Nothing listens there", "start PostgreSQL, or correct the host and the port in the URL"],
  ENOENT: [
    "There is no socket in that directory",
    "start PostgreSQL, or correct the directory and the port in the URL"
  ],
  EACCES: ["This user may not use the socket", "run as a user who may, or connect over TCP"],
  ENOTFOUND: ["There is no such host", "correct the host in the URL"],
  EAI_AGAIN: ["The name of the host cannot be looked up", "correct the host in the URL, or look at the name server"],
  EHOSTUNREACH: ["The host cannot be reached", "look at the network and at firewalls"],
  ENETUNREACH: ["The host cannot be reached", "look at the network and at firewalls"],
  ETIMEDOUT: ["The host does not answer", "look at the host in the URL, at the network and at firewalls"]
}

const textOf = (error: unknown, property: string): string =>
  Predicate.hasProperty(error, property) ? String(error[property]) : ""

/**
 * Says what stopped a connection or a statement, and what to do. It shows what the server said, which never holds a
 * password.
 */
const explain = ({ reason }: SqlError): string => {
  const { cause } = reason
  const code = textOf(cause, "code")
  const said = textOf(cause, "message") || textOf(reason, "message")
  const known = Object.hasOwn(sentences, code) ? sentences[code] : undefined
  if (known !== undefined) return `${known[0]} (${said || code}); ${known[1]}`
  if (/CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS|ERR_SSL/.test(code)) {
    return `The server's certificate is not trusted (${said}); name the file of its authority in NODE_EXTRA_CA_CERTS, ` +
      `or correct the host in the URL`
  }
  if (said.includes("does not support TLS")) {
    return `The server speaks no TLS, which sslmode asks for; turn it on at the server, or say sslmode=disable in the URL`
  }
  if (said.includes("timed out")) return `The host does not answer (${said}); ${sentences.ETIMEDOUT?.[1]}`
  if (reason._tag === "AuthenticationError") {
    return `The server does not let this user in (${said}); correct the user and the password in the URL`
  }
  return `What answers there cannot be used (${said}); look whether it is PostgreSQL, and at its log`
}

/** Looks whether a database can be used. */
export const check = (sql: PgClient): Effect.Effect<void, UnusableDatabase> =>
  Effect.gen(function*() {
    const [row] = yield* sql.unsafe<{
      readonly version: string
      readonly encoding: string
      readonly isReadOnly: boolean
      readonly schema: string | null
      readonly path: string
      readonly creates: boolean | null
      readonly role: string
    }>(
      `SELECT current_setting('server_version_num') AS version, current_setting('server_encoding') AS encoding,
        pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS "isReadOnly",
        current_schema() AS schema, current_setting('search_path') AS path,
        has_schema_privilege(current_schema(), 'CREATE') AS creates, current_user AS role`
    ).pipe(
      Effect.mapError((cause) => new UnusableDatabase({ problem: explain(cause), cause })),
      Effect.timeoutOrElse({
        duration: "10 seconds",
        orElse: () =>
          Effect.fail(
            new UnusableDatabase({
              problem: `The server takes connections and does not answer; look at its log and its load`,
              cause: new Error("No answer within 10 seconds")
            })
          )
      })
    )
    const refuse = (problem: string) =>
      new UnusableDatabase({ problem, cause: new Error("The database was looked at") })
    const major = Math.floor(Number(row?.version) / 10_000)
    if (!(major >= oldestVersion)) {
      return yield* refuse(
        `The server is PostgreSQL ${major}; Sallyport needs ${oldestVersion} or newer, so upgrade the server`
      )
    }
    if (row?.encoding !== "UTF8") {
      return yield* refuse(
        `The database keeps text as ${row?.encoding}, which has not every character; create one with ` +
          `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`
      )
    }
    if (row.isReadOnly) {
      return yield* refuse(
        `The database can only be read; name the primary server, not a replica, or end default_transaction_read_only`
      )
    }
    if (row.schema === null) {
      return yield* refuse(
        `The user "${row.role}" finds no schema for the tables in the search_path ${row.path}; create one, or ` +
          `GRANT USAGE, CREATE ON SCHEMA … TO "${row.role}"`
      )
    }
    if (row.creates !== true) {
      return yield* refuse(
        `The user "${row.role}" may not create tables in the schema "${row.schema}"; ` +
          `GRANT CREATE ON SCHEMA "${row.schema}" TO "${row.role}"`
      )
    }
  })
