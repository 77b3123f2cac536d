/**
 * Serves streams of the Durable Streams protocol on a database, because the reference backend mounts none. Takes the port
 * and, unless `SALLYPORT_DATABASE_URL` is set, the name of an SQLite file; prints where it listens as a line of JSON.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Repositories from "@sallyport/core/Repositories"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as DurableStreamsRoutes from "@sallyport/durable-streams/DurableStreamsRoutes"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as Shutdown from "@sallyport/http/Shutdown"
import * as EarlyRequests from "@sallyport/node/EarlyRequests"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Runtime from "effect/Runtime"
import { createServer } from "node:http"

const [port = "0", filename = ""] = process.argv.slice(2)
const url = process.env["SALLYPORT_DATABASE_URL"]

const repository = url === undefined
  ? Layer.provide(SqlDurableStreamRepository.layer, SqliteClient.layer({ filename }))
  : Layer.provide(SqlDurableStreamRepository.layer, PgDatabase.layer({ url: Redacted.make(url) }))

const announcement = Layer.effectDiscard(
  HttpServer.HttpServer.use(({ address }) =>
    Console.log(JSON.stringify({ url: `http://127.0.0.1:${"port" in address ? address.port : 0}`, code: "" }))
  )
)

const server = HttpRouter.serve(DurableStreamsRoutes.layer(), { disableLogger: true, disableListenLog: true }).pipe(
  Shutdown.graceful,
  Layer.provide(Layer.provide(DurableStreams.layer, repository)),
  Layer.provide(SessionCredentialService.layer),
  Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
  Layer.provide(Layer.succeed(AccessScope.Vocabulary, [...AccessScope.builtin, ...DurableStreamsRoutes.scopes])),
  // The sessions of a killed process would be gone with its memory.
  Layer.provide(AuthPolicy.layer({ host: "127.0.0.1", kind: "unsafe-no-auth" })),
  (routes) => Layer.provideMerge(announcement, routes),
  Layer.provide(
    NodeHttpServer.layer(() => EarlyRequests.hold(createServer()), {
      host: "127.0.0.1",
      port: Number(port),
      gracefulShutdownTimeout: "2 seconds"
    })
  ),
  Layer.provide(NodeCrypto.layer)
)

Layer.launch(server).pipe(
  Effect.tapCause((cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError(cause)),
  Effect.provide(Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])),
  NodeRuntime.runMain({
    // It would tell of a failed start on standard output, which is for the announcement.
    disableErrorReporting: true,
    // A server that SIGTERM stops has not failed.
    teardown: (exit, onExit) =>
      Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? onExit(0) : Runtime.defaultTeardown(exit, onExit)
  })
)
