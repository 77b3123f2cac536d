/**
 * A server whose every connection to the database is in use.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Transactions from "@sallyport/core/sql/Transactions"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as PgRepositories from "@sallyport/pg/PgRepositories"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { createServer } from "node:http"
import { connect, postgres } from "../../../test-support/databases.ts"
import { eventually } from "../../../test-support/programs.ts"

const exchange = (code: string) =>
  new URLSearchParams({
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: code,
    subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
  })

describe("a server whose pool has no free connection", () => {
  it.live("OPS-01: answers a typed 503 with Retry-After at the deadline, in the form of the endpoint, and serves again after it", () =>
    Effect.gen(function*() {
      const { config } = Context.get(yield* Layer.build(postgres), PgClient.PgClient)
      const size = 3
      const server = yield* Layer.build(
        HttpRouter.serve(Sallyport.layer(), { disableListenLog: true, disableLogger: true }).pipe(
          Layer.provide(RunProgram.layer(() => Effect.void)),
          Layer.provideMerge(Layer.mergeAll(
            BootstrapCredentialService.layer,
            SessionCredentialService.layer,
            RunEventLog.layer,
            AuthPolicy.layer({ host: "127.0.0.1" })
          )),
          Layer.provide([PgRepositories.layer, SecretStore.layerMemory]),
          Layer.provide(Layer.succeed(Transactions.Deadline, Duration.seconds(1))),
          Layer.provideMerge(connect(config.database ?? "", size)),
          Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
          Layer.provideMerge(NodeCrypto.layer)
        )
      )
      const { address } = Context.get(server, HttpServer.HttpServer)
      const url = `http://127.0.0.1:${"port" in address ? address.port : 0}`
      const links = Context.get(server, BootstrapCredentialService.BootstrapCredentialService)
      const sessions = Context.get(server, SessionCredentialService.SessionCredentialService)
      const { code } = yield* links.issue({ issuedBy: "operator", scopes: AccessScope.builtin })
      const { token } = yield* sessions.issue({
        subject: "ada",
        scopes: AccessScope.builtin,
        method: "bearer-access-token"
      })
      const headers = { authorization: `Bearer ${Redacted.value(token)}`, "content-type": "application/json" }
      const send = (path: string, init: RequestInit) =>
        Effect.promise(async () => {
          const response = await fetch(url + path, init)
          const json: Record<string, unknown> = await response.json()
          return { status: response.status, retryAfter: response.headers.get("retry-after"), json }
        })
      const requests = [
        send("/api/auth/sessions", { headers }),
        send("/api/auth/pairing-links", { method: "POST", headers, body: "{}" }),
        send("/api/threads/thread/active-run", { headers }),
        send("/oauth/token", { method: "POST", body: exchange(Redacted.value(code)) })
      ]
      const sql = Context.get(server, PgClient.PgClient)
      yield* Effect.scoped(Effect.gen(function*() {
        for (let n = 0; n < size; n++) yield* sql.reserve
        const answers = yield* Effect.all(requests, { concurrency: "unbounded" })
        for (const { json, retryAfter, status } of answers) {
          assert.deepStrictEqual([status, retryAfter], [503, "1"], JSON.stringify(json))
        }
        assert.deepStrictEqual(
          answers.map(({ json }) => [json["code"] ?? json["error"], typeof json["traceId"]]),
          [["unavailable", "string"], ["unavailable", "string"], ["unavailable", "string"], [
            "temporarily_unavailable",
            "string"
          ]]
        )
      }))
      // What was refused has not spent the code.
      for (const request of requests) {
        const { json, status } = yield* eventually(request, ({ status }) => status !== 503)
        assert.isBelow(status, 300, JSON.stringify(json))
      }
    }).pipe(Effect.scoped))
})
