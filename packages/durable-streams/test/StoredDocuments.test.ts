import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Browser from "../../../test-support/browser.ts"
import { start } from "./support.ts"

const { step } = Browser

/** Would sign the owner out, and would show that it ran. */
const page = (url: string) =>
  `<!doctype html><meta charset="utf-8">
<body data-ran="no"><img src="${url}/streams/seen" onerror="document.body.dataset.ran = 'image'">
<script>document.body.dataset.ran = "script"; fetch("${url}/streams/mine", { method: "DELETE" })</script>`

const svg = (url: string) =>
  `<svg xmlns="http://www.w3.org/2000/svg" onload="fetch('${url}/streams/mine', { method: 'DELETE' })"></svg>`

const documents = [["text/html", page], ["image/svg+xml", svg], ["application/xhtml+xml", svg], [
  "text/xml",
  svg
]] as const

describe("a stored document", () => {
  it.live("HTTP-07 C-16: every answer that a browser could open as a page is a sandboxed download", () =>
    Effect.gen(function*() {
      const { token, url } = yield* start({ longPollTimeout: 50 })
      const authorization = `Bearer ${yield* token("owner")}`
      for (const [contentType, body] of [...documents, ["application/json", () => "[1]"] as const]) {
        const stream = `${url}/streams/${encodeURIComponent(contentType)}`
        const send = (method: string, path: string, headers: Record<string, string> = {}, text?: string) =>
          step(() =>
            fetch(path, {
              method,
              headers: { authorization, ...headers },
              ...(text === undefined ? {} : { body: text })
            })
          )
        const answers = [
          yield* send("PUT", stream, { "content-type": contentType }, body(url)),
          yield* send("POST", stream, { "content-type": contentType }, body(url)),
          yield* send("HEAD", stream),
          yield* send("GET", stream),
          yield* send("GET", `${stream}?offset=-1`),
          yield* send("GET", `${stream}?offset=now`),
          yield* send("GET", `${stream}?offset=x`),
          yield* send("GET", `${stream}/nothing`),
          yield* send("GET", `${stream}?offset=-1&live=long-poll`),
          yield* send("GET", `${stream}?offset=now&live=long-poll`)
        ]
        for (const { headers, status, url } of answers) {
          assert.strictEqual(headers.get("content-security-policy"), "sandbox; default-src 'none'", `${status} ${url}`)
          assert.strictEqual(headers.get("content-disposition"), "attachment", `${status} ${url}`)
          assert.strictEqual(headers.get("x-content-type-options"), "nosniff", `${status} ${url}`)
        }
      }
    }))

  it.live(
    "HTTP-07 C-16: runs nothing in the owner's browser: opened, and if a proxy loses the download",
    () =>
      Effect.gen(function*() {
        const { sessions, streams, url } = yield* start()
        const { port } = new URL(url)
        const scopes = ["streams:read", "streams:write"] as const
        const session = yield* Effect.orDie(
          sessions.issue({ subject: "owner", scopes, method: "browser-session-cookie" })
        )
        const owner = { subject: "owner" }
        const create = (path: string, contentType: string, text: string) =>
          Effect.orDie(streams.create({ owner, path, contentType, data: new TextEncoder().encode(text) }))
        yield* create("mine", "text/plain", "the owner's")
        for (const [contentType, body] of documents) yield* create(contentType, contentType, body(url))

        const chromium = yield* Browser.browser
        const context = yield* Browser.profile(chromium)
        yield* step(() =>
          context.addCookies([{
            name: `sallyport_session_${port}`,
            value: Redacted.value(session.token),
            url,
            httpOnly: true,
            sameSite: "Lax"
          }])
        )
        const changes: Array<string> = []
        context.on("request", (request) => {
          if (request.method() !== "GET") changes.push(`${request.method()} ${request.url()}`)
        })
        for (const [contentType] of documents) {
          const address = `${url}/streams/${contentType}`
          const direct = yield* step(() => context.newPage())
          const [download] = yield* step(() =>
            Promise.all([direct.waitForEvent("download"), direct.goto(address).catch(() => undefined)])
          )
          assert.strictEqual(download.url(), address)

          // The same document, shown: its answer has lost the word that makes it a download.
          const shown = yield* step(() => context.newPage())
          yield* step(async () => {
            await shown.route("**/streams/**", async (route) => {
              const response = await route.fetch()
              const { "content-disposition": _, ...headers } = response.headers()
              await route.fulfill({ response, headers })
            })
            await shown.goto(address, { waitUntil: "load" })
          })
          const seen = yield* step(() =>
            shown.evaluate(() => ({ origin: self.origin, ran: document.body?.dataset["ran"] ?? "no" }))
          )
          assert.deepStrictEqual(seen, { origin: "null", ran: "no" }, contentType)
          yield* step(() => shown.close())
        }
        assert.deepStrictEqual(changes, [])
        assert.strictEqual((yield* Effect.orDie(streams.get({ owner, path: "mine" }))).contentType, "text/plain")
      }),
    180_000
  )
})
