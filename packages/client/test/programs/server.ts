/**
 * Serves the whole HTTP surface on an SQLite file, and prints its port and a token as one line of JSON.
 *
 * A run counts to its input, one number in ten milliseconds. The test that starts this program kills it.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { createServer } from "node:http"

const [filename = "", leaseMillis = ""] = process.argv.slice(2)

const announce = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const sessions = yield* SessionCredentialService.SessionCredentialService
  const { token } = yield* sessions.issue({
    subject: "owner",
    scopes: AccessScope.builtin,
    method: "bearer-access-token"
  })
  const port = "port" in address ? address.port : 0
  yield* Effect.sync(() => process.stdout.write(`${JSON.stringify({ port, token: Redacted.value(token) })}\n`))
}))

const Services = Layer.mergeAll(
  SessionCredentialService.layer,
  BootstrapCredentialService.layer,
  AuthPolicy.layer({ host: "127.0.0.1" }),
  RunProgram.layer(Effect.fnUntraced(function*({ input, run }) {
    for (let n = 1; n <= Number(input); n++) {
      yield* run.append({ n })
      yield* Effect.sleep("10 millis")
    }
    return Number(input)
  })),
  RunEventLog.layerReaper({ interval: "20 millis" }).pipe(
    Layer.provideMerge(RunEventLog.layerWith({
      heartbeatInterval: `${Number(leaseMillis) / 4} millis`,
      lease: `${Number(leaseMillis)} millis`
    }))
  )
).pipe(
  Layer.provideMerge(Layer.merge(SqlRepositories.layer, SqlSecretStore.layer)),
  Layer.provide(SqliteClient.layer({ filename, busyTimeout: "30 seconds" })),
  Layer.provideMerge(NodeCrypto.layer)
)

HttpRouter.serve(Sallyport.layer(), { disableLogger: true, disableListenLog: true }).pipe(
  Layer.merge(announce),
  Layer.provide(Services),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
  Layer.provide(Logger.layer([Logger.map(Logger.formatLogFmt, (line) => process.stderr.write(`${line}\n`))])),
  Layer.launch,
  NodeRuntime.runMain
)
