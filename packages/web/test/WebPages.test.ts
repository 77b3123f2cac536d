import { assert, describe, it } from "@effect/vitest"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as WebPages from "@sallyport/web/WebPages"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Browser from "../../../test-support/browser.ts"
import { start } from "../../http/test/support.ts"

const { step } = Browser

/** Mounts the pages beside the API of a server of this process. */
const serve = (options: WebPages.Options = {}) =>
  Effect.map(
    start({
      routes: Layer.merge(
        Sallyport.layer({ prefix: options.api, pages: false }),
        Layer.orDie(WebPages.layer(options))
      )
    }),
    ({ code, port }) => ({ url: `http://127.0.0.1:${port}`, code })
  )

const get = (url: string, init?: RequestInit) => step(() => fetch(url, { redirect: "manual", ...init }))

/** Returns the addresses of what a page loads, as a browser resolves them. */
const loadedBy = (address: string, html: string) =>
  [...html.matchAll(/ (?:href|src)="(?!data:)([^"]+)"/g)].map(([, path = ""]) => new URL(path, address).href)

describe("the pages", () => {
  it.live("WEB-01 HTTP-07: run nothing that is not a file of theirs, in no frame, and are kept by no cache", () =>
    Effect.gen(function*() {
      const { url } = yield* serve({ name: "<b>\"& workbench" })
      const answer = yield* get(`${url}/connections`)
      assert.strictEqual(answer.status, 200)
      assert.deepInclude(Object.fromEntries(answer.headers), {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
          "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
      })
      assert.isNull(answer.headers.get("set-cookie"))
      const html = yield* step(() => answer.text())
      assert.notMatch(html, /<b>|https?:|\/\/[a-z]|<style|\bstyle=|\bon[a-z]+=|<script(?! type="module" src=)/i)
      for (const path of [`${url}/connections`, `${url}/connections/`]) {
        for (const file of loadedBy(path, html.replaceAll("\"./", path.endsWith("/") ? "\"../" : "\"./"))) {
          assert.strictEqual((yield* get(file)).status, 200, file)
        }
      }
    }))

  it.live("WEB-02: files are kept for good by their name, asked for by HEAD, and not sent again to a browser that has them", () =>
    Effect.gen(function*() {
      const { url } = yield* serve({ styleSheet: ":root { --accent: #7a1f5c }" })
      const files = loadedBy(`${url}/connections`, yield* step(async () => (await fetch(`${url}/connections`)).text()))
      assert.isAtLeast(files.length, 3)
      for (const file of files) {
        const whole = yield* get(file)
        const body = yield* step(() => whole.bytes())
        assert.strictEqual(whole.headers.get("cache-control"), "public, max-age=31536000, immutable")
        assert.match(whole.headers.get("content-type") ?? "", /^text\/(?:css|javascript); charset=utf-8$/)
        const etag = whole.headers.get("etag") ?? ""
        assert.match(etag, /^"[^"]+"$/)
        for (const known of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
          const unchanged = yield* get(file, { headers: { "if-none-match": known } })
          assert.strictEqual(unchanged.status, 304, known)
          assert.strictEqual((yield* step(() => unchanged.bytes())).length, 0)
        }
        assert.strictEqual((yield* get(file, { headers: { "if-none-match": "\"other\"" } })).status, 200)
        const head = yield* get(file, { method: "HEAD" })
        assert.strictEqual(head.status, 200)
        assert.strictEqual(head.headers.get("etag"), etag)
        assert.strictEqual(head.headers.get("content-length"), String(body.length))
      }
      assert.strictEqual((yield* get(`${url}/connections`, { method: "HEAD" })).status, 200)
      const theme = files.find((file) => file.includes("/theme-")) ?? ""
      assert.strictEqual(yield* step(async () => (await fetch(theme)).text()), ":root { --accent: #7a1f5c }")
    }))

  it.live("WEB-02: nothing is read but what was built, by whatever path it is asked for", () =>
    Effect.gen(function*() {
      const { url } = yield* serve()
      for (
        const path of [
          "/assets/none.js",
          "/assets/",
          "/manifest.json",
          "/assets/../manifest.json",
          "/assets/..%2fmanifest.json",
          "/assets/..%2f..%2f..%2fpackage.json",
          "/assets/%2e%2e/%2e%2e/package.json",
          "/assets/..\\..\\package.json",
          "/assets//etc/passwd",
          "/assets/%00"
        ]
      ) {
        const answer = yield* get(url + path)
        assert.strictEqual(answer.status, 404, path)
        assert.notInclude(yield* step(() => answer.text()), "\"name\"")
      }
    }))

  it.live(
    "WEB-03: stand under a path of their own, with the API elsewhere, in the host's colours and name",
    () =>
      Effect.gen(function*() {
        const { code, url } = yield* serve({
          prefix: "/ops",
          api: "/backend",
          name: "workbench",
          styleSheet: ":root { --accent: #7a1f5c }"
        })
        const credential = yield* code()
        const page = yield* Effect.flatMap(
          Effect.flatMap(Browser.browser, (chromium) => Browser.profile(chromium)),
          (context) => step(() => context.newPage())
        )
        const problems: Array<string> = []
        page.on("pageerror", (error) => problems.push(String(error)))
        page.on("console", (message) => {
          if (message.text().includes("Content Security Policy")) problems.push(message.text())
        })
        yield* step(() => page.goto(`${url}/ops/connections/`))
        yield* step(() => page.getByText("This browser is not paired").waitFor())
        yield* step(() =>
          page.evaluate(
            (credential) =>
              fetch("/backend/api/auth/bootstrap", {
                method: "POST",
                headers: { "content-type": "application/json" },
                body: JSON.stringify({ credential, label: "Chromium" })
              }),
            credential
          )
        )
        yield* step(() => page.reload())
        yield* step(() => page.getByText("This device", { exact: true }).waitFor())
        assert.strictEqual(yield* step(() => page.title()), "Connections · workbench")
        assert.strictEqual(yield* step(() => page.innerText(".sw-brand")), "workbench")
        assert.strictEqual(
          yield* step(() =>
            page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue("--accent"))
          ),
          "#7a1f5c"
        )
        assert.strictEqual((yield* get(`${url}/connections`)).status, 404)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
