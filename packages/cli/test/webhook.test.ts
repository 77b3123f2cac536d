import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { createHmac } from "node:crypto"
import * as Http from "node:http"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"

const key = Buffer.alloc(32, 7)

/** Starts a receiver that takes every call. */
const receiver = Effect.gen(function*() {
  const calls = yield* Queue.unbounded<{ readonly headers: Http.IncomingHttpHeaders; readonly body: string }>()
  const server = Http.createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (chunk: string) => body += chunk)
    request.on("end", () => {
      Queue.offerUnsafe(calls, { headers: request.headers, body })
      response.writeHead(204).end()
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const address = server.address()
  return {
    next: Queue.take(calls),
    url: `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}/hook`
  }
})

describe("sallyport serve --webhook-url", () => {
  it.live(
    "CONN-16 CONN-14: a device that asks is told of, signed with the secret of the variable, and not the code that it shows",
    () =>
      Effect.gen(function*() {
        const { next, url } = yield* receiver
        const secret = `whsec_${key.toString("base64")}`
        const server = yield* Sallyport.serveWith(
          { SALLYPORT_WEBHOOK_SECRET: secret, SALLYPORT_WEBHOOK_ALLOW_LOOPBACK: "true" },
          yield* Sallyport.freshState,
          "--webhook-url",
          url
        )
        const asked = yield* Sallyport.request(`${server.url}/oauth/device_authorization`, {
          method: "POST",
          headers: { "content-type": "application/x-www-form-urlencoded", "user-agent": "build-agent/1" },
          body: "client_id=build-agent&scope=runs%3Aread"
        })
        const { user_code: code } = asked.json<{ readonly user_code: string }>()
        const { body, headers } = yield* next
        assert.deepInclude(JSON.parse(body).data, {
          account: "build-agent",
          label: "build-agent/1",
          requestedScopes: ["runs:read"]
        })
        const text = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`
        assert.strictEqual(
          headers["webhook-signature"],
          `v1,${createHmac("sha256", key).update(text).digest("base64")}`
        )
        assert.notInclude(body, code)
        yield* server.stop("SIGTERM")
        assert.notInclude(server.stderr(), secret)
      }),
    Programs.timeout
  )
})
