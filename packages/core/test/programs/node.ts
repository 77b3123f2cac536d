/**
 * Serves the whole HTTP surface as one of several processes on one database.
 *
 * The argument is the kind of policy, if it is not that of a loopback address. The first line of standard input says where
 * the database is. The first line of standard output is the port; each further
 * line of input asks for a session of a subject, and is answered with its token. Logs go to standard error.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as PgRepositories from "@sallyport/pg/PgRepositories"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import { createInterface } from "node:readline"
import type { SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

const lines = createInterface(process.stdin)[Symbol.asyncIterator]()
const nextLine = Effect.promise(() => lines.next())
const print = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))

const kind = process.argv[2] === undefined ? undefined : Schema.decodeUnknownSync(AuthPolicy.Kind)(process.argv[2])
const database: SharedDatabase = JSON.parse((await lines.next()).value ?? "")

const Repositories = "filename" in database
  ? Layer.merge(SqlRepositories.layer, SqlSecretStore.layer).pipe(
    Layer.provide(SqliteClient.layer({ ...database, busyTimeout: "30 seconds" }))
  )
  : Layer.merge(PgRepositories.layer, SqlSecretStore.layer).pipe(
    Layer.provide(
      PgClient.layer({
        ...database,
        password: Redacted.make(database.password),
        minConnections: 4,
        maxConnections: 4,
        idleTimeout: "10 minutes"
      })
    )
  )

/** Says how far a run counts, and at which pace. */
const Count = Schema.Struct({ to: Schema.Natural, everyMillis: Schema.Natural })
const asCount = Schema.decodeUnknownOption(Count)

/** Appends the numbers from 1 to the input. */
const Counting = RunProgram.layer(({ input, run }) =>
  Effect.gen(function*() {
    const { everyMillis, to } = Option.getOrElse(asCount(input), () => ({ to: Number(input), everyMillis: 0 }))
    for (let n = 1; n <= to; n++) {
      yield* run.append({ n })
      if (everyMillis > 0) yield* Effect.sleep(everyMillis)
    }
  })
)

const program = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const sessions = yield* SessionCredentialService.SessionCredentialService
  yield* print(String("port" in address ? address.port : 0))
  while (true) {
    const { done, value } = yield* nextLine
    if (done === true) return
    const { session, token } = yield* sessions.issue({
      subject: value,
      scopes: AccessScope.builtin,
      method: "bearer-access-token"
    })
    yield* print(JSON.stringify({ id: session.id, token: Redacted.value(token) }))
  }
})

const Services = Layer.mergeAll(
  SessionCredentialService.layer,
  BootstrapCredentialService.layer,
  RunEventLog.layer,
  AuthPolicy.layer({ host: "127.0.0.1", kind }),
  Counting
).pipe(Layer.provideMerge(Repositories), Layer.provideMerge(NodeCrypto.layer))

await Effect.runPromise(
  program.pipe(
    Effect.provide(
      HttpRouter.serve(Sallyport.layer(), { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provideMerge(Services),
        Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
      )
    ),
    Effect.provide(Logger.layer([Logger.map(Logger.formatLogFmt, (line) => process.stderr.write(`${line}\n`))]))
  )
)
process.exit(0)
