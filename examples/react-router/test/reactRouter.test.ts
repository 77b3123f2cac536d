/** Builds the application as its users do, and drives the server that comes out of it over HTTP. */
import { assert, describe, it } from "@effect/vitest"
import { TestClient } from "@sallyport/testing/host"
import { Effect, Redacted, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { randomUUID } from "node:crypto"
import * as NFS from "node:fs"
import { fileURLToPath } from "node:url"
import { program, temporaryDirectory, timeout } from "../../../test-support/programs.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const reactRouter = fileURLToPath(new URL("../bin.cjs", import.meta.resolve("@react-router/dev/config")))

/** Builds into a directory of this test. Node has to find the packages from there, so it is not a temporary one. */
const build = Effect.gen(function*() {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => `dist/${randomUUID()}`),
    (directory) => Effect.sync(() => NFS.rmSync(`${root}${directory}`, { recursive: true, force: true }))
  )
  const building = yield* program(reactRouter, ["build", root], {
    BUILD_DIRECTORY: directory,
    NODE_ENV: "production"
  })
  const { code } = yield* building.exit
  assert.strictEqual(code, 0, building.stdout() + building.stderr())
  return `${root}${directory}/server/index.js`
})

const serve = Effect.gen(function*() {
  const server = yield* program(yield* build, [], {
    GREENHOUSE_FILE: `${yield* temporaryDirectory}/greenhouse.db`,
    NODE_ENV: "production",
    PORT: "0"
  })
  const link = new URL(yield* server.printed(/http:\S+#token=\S+/))
  return { url: link.origin, code: link.hash.slice("#token=".length) }
})

const request = (url: string, init?: RequestInit) =>
  Effect.promise(async () => {
    const answer = await fetch(url, { redirect: "manual", ...init })
    return { status: answer.status, headers: answer.headers, text: await answer.text() }
  })

describe("a React Router application", () => {
  it.live(
    "HTTP-05 SESS-08 RUN-08: a page is rendered for the principal of the cookie, the API streams, and a revoked browser is sent to pair",
    () =>
      Effect.gen(function*() {
        const { code, url } = yield* serve
        const stranger = yield* request(url)
        assert.deepStrictEqual([stranger.status, stranger.headers.get("location")], [302, "/sallyport/pair"])
        assert.include((yield* request(`${url}/sallyport/pair`)).text, "Greenhouse")

        const paired = yield* request(`${url}/sallyport/api/auth/bootstrap`, {
          method: "POST",
          headers: { "content-type": "application/json", origin: url },
          body: JSON.stringify({ credential: code })
        })
        assert.strictEqual(paired.status, 200, paired.text)
        const cookie = paired.headers.getSetCookie().map((line) => line.split(";")[0]).join("; ")
        const page = yield* request(url, { headers: { cookie } })
        assert.strictEqual(page.status, 200)
        assert.match(page.text, /Greenhouse of (?:<!-- -->)?owner/)
        const asset = /\/assets\/[\w.-]+\.js/.exec(page.text)?.[0] ?? ""
        assert.include((yield* request(url + asset)).headers.get("content-type"), "javascript")

        const { text } = yield* request(`${url}/sallyport/api/auth/pairing-links`, {
          method: "POST",
          headers: { "content-type": "application/json", cookie, origin: url },
          body: "{}"
        })
        const client = yield* TestClient.pair({
          baseUrl: `${url}/sallyport`,
          code: Redacted.make(JSON.parse(text).code)
        })
        const intent = yield* client.runs.intent({ threadId: "thread", input: "water the basil" })
        const events = yield* Stream.runCollect(client.runs.run(intent))
        assert.deepStrictEqual(
          events.map((event) => event._tag === "Data" ? event.data : event.end.status),
          ["water the basil", "succeeded"]
        )

        yield* client.access.revokeOtherSessions
        assert.strictEqual((yield* request(url, { headers: { cookie } })).status, 302)
      }).pipe(Effect.scoped, Effect.provide(FetchHttpClient.layer)),
    timeout
  )
})
