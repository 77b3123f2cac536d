import { assert, describe, it } from "@effect/vitest"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as WireError from "@sallyport/contract/WireError"
import * as WebPages from "@sallyport/web/WebPages"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as NHttp from "node:http"
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

/** Asks for a path as it stands: an address would resolve its dots before it is sent. */
const asItStands = (url: string, path: string) =>
  Effect.callback<{ readonly status: number; readonly body: string }>((resume) => {
    NHttp.get(url, { path }, (answer) => {
      let body = ""
      answer.setEncoding("utf8").on("data", (chunk: string) => body += chunk)
      answer.on("end", () => resume(Effect.succeed({ status: answer.statusCode ?? 0, body })))
    }).on("error", (error) => resume(Effect.die(error)))
  })

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
        const plain = yield* get(file, { method: "HEAD", headers: { "accept-encoding": "identity" } })
        assert.strictEqual(plain.headers.get("content-length"), String(body.length))
      }
      assert.strictEqual((yield* get(`${url}/connections`, { method: "HEAD" })).status, 200)
      const theme = files.find((file) => file.includes("/theme-")) ?? ""
      assert.strictEqual(yield* step(async () => (await fetch(theme)).text()), ":root { --accent: #7a1f5c }")
    }))

  it.live("WEB-02: files that were built are sent with gzip to clients that take it, and to no others", () =>
    Effect.gen(function*() {
      const { url } = yield* serve()
      const files = loadedBy(`${url}/connections`, yield* step(async () => (await fetch(`${url}/connections`)).text()))
      const built = files.filter((file) => !file.includes("/theme-"))
      assert.isAtLeast(built.length, 2)
      const taken = [
        "gzip",
        "GZIP",
        "br, gzip;q=0.5",
        "deflate,gzip",
        "*",
        "x-gzip",
        "gzip;q=0.001",
        "identity;q=0, *;q=1"
      ]
      const refused = ["identity", "", "br", "gzip;q=0", "gzip; q=0.000", "*;q=0", "gzip;q=0, *", "gzippy", "gzip;q=x"]
      for (const file of built) {
        const ask = (accepted: string, headers: Record<string, string> = {}) =>
          get(file, { headers: { "accept-encoding": accepted, ...headers } })
        const plain = yield* ask("identity")
        const text = yield* step(() => plain.text())
        const length = Number(plain.headers.get("content-length"))
        for (const accepted of taken) {
          const answer = yield* ask(accepted)
          assert.strictEqual(answer.headers.get("content-encoding"), "gzip", accepted)
          assert.isBelow(Number(answer.headers.get("content-length")), length / 2)
          assert.strictEqual(yield* step(() => answer.text()), text)
          assert.strictEqual(answer.headers.get("vary"), "accept-encoding")
          const etag = answer.headers.get("etag") ?? ""
          assert.notStrictEqual(etag, plain.headers.get("etag"))
          const unchanged = yield* ask(accepted, { "if-none-match": etag })
          assert.deepStrictEqual([unchanged.status, unchanged.headers.get("vary")], [304, "accept-encoding"])
          assert.strictEqual((yield* ask("identity", { "if-none-match": etag })).status, 200)
        }
        for (const accepted of refused) {
          const answer = yield* ask(accepted)
          assert.isNull(answer.headers.get("content-encoding"), accepted)
          assert.strictEqual(answer.headers.get("vary"), "accept-encoding")
          assert.strictEqual(yield* step(() => answer.text()), text)
        }
      }
    }))

  it.live("WEB-02: nothing is read but what was built, by whatever path it is asked for", () =>
    Effect.gen(function*() {
      const { url } = yield* serve()
      for (
        const path of [
          "/sallyport/none.js",
          "/sallyport/",
          "/manifest.json",
          "/sallyport/../manifest.json",
          "/sallyport/..%2fmanifest.json",
          "/sallyport/..%2f..%2f..%2fpackage.json",
          "/sallyport/%2e%2e/%2e%2e/package.json",
          "/sallyport/..\\..\\package.json",
          `/sallyport/${"../".repeat(16)}etc/passwd`,
          `/sallyport/${"%2e%2e%2f".repeat(16)}etc/passwd`,
          "/sallyport//etc/passwd",
          "/sallyport/%00"
        ]
      ) {
        const { body, status } = yield* asItStands(url, path)
        assert.strictEqual(status, 404, path)
        assert.notInclude(body, "\"name\"")
      }
    }))

  it.live("WEB-02 HTTP-07: what is no file of the pages is answered as the API answers, and kept by no cache", () =>
    Effect.gen(function*() {
      const decode = Schema.decodeUnknownSync(Schema.fromJsonString(WireError.NotFound))
      for (const prefix of ["", "/ops"] as const) {
        const { url } = yield* serve(prefix === "" ? {} : { prefix, api: "/" })
        for (
          const path of ["/sallyport/none.js", "/sallyport/a/b.css", "/sallyport/%00", "/sallyport/"]
        ) {
          const answer = yield* get(`${url}${prefix}${path}`)
          assert.strictEqual(answer.status, 404, path)
          assert.deepInclude(Object.fromEntries(answer.headers), {
            "content-type": "application/json",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff"
          })
          const { code, retryable } = decode(yield* step(() => answer.text()))
          assert.deepStrictEqual([code, retryable], ["page_not_found", false])
        }
      }
    }))

  it.live(
    "WEB-03: whatever colour they take, text in it and on it can be read, in both schemes",
    () =>
      Effect.gen(function*() {
        for (const text of ["", "red", "#fff", "#12345", "#1234567", "#gggggg", "7a1f5c", "#7a1f5c;}"]) {
          assert.isTrue(Option.isNone(Schema.decodeUnknownOption(WebPages.Accent)(text)), text)
        }
        const page = yield* Effect.flatMap(
          Effect.flatMap(Browser.browser, Browser.profile),
          (context) => step(() => context.newPage())
        )
        for (const accent of ["#ffff00", "#7F7F7F", "#000000", "#ffffff", "#7a1f5c"]) {
          const { url } = yield* serve({ accent: WebPages.Accent.make(accent) })
          yield* step(() => page.goto(`${url}/pair`))
          yield* step(() => page.getByLabel("Pairing code").fill("never"))
          for (const colorScheme of ["light", "dark"] as const) {
            yield* step(() => page.emulateMedia({ colorScheme, reducedMotion: "reduce" }))
            assert.deepStrictEqual(yield* Browser.violations(page, ["color-contrast"]), [], accent)
          }
        }
      }),
    300_000
  )

  it.live(
    "WEB-03: work behind a proxy that takes a path away, from the pairing address to the owner's page",
    () =>
      Effect.gen(function*() {
        const { code, url } = yield* serve({ start: true })
        const below = yield* serve({ start: true, prefix: "/ops", api: "/" })
        for (const path of [`${url}/`, `${below.url}/ops`, `${below.url}/ops/`, `${below.url}/ops/pair/?a=/b`]) {
          const html = yield* step(async () => (await fetch(path)).text())
          for (const file of loadedBy(path, html)) assert.strictEqual((yield* get(file)).status, 200, `${path} ${file}`)
        }
        const strip = (path = "") => path.replace(/^\/sally(?=\/|$)/, "") || "/"
        const proxy = yield* Effect.acquireRelease(
          Effect.callback<NHttp.Server>((resume) => {
            const server = NHttp.createServer((incoming, outgoing) => {
              if (!incoming.url?.startsWith("/sally/")) return void outgoing.writeHead(418).end()
              const { headers, method } = incoming
              const forwarded = NHttp.request(url + strip(incoming.url), { method, headers }, (answer) => {
                outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
                answer.pipe(outgoing)
              })
              outgoing.on("close", () => forwarded.destroy())
              forwarded.on("error", () => outgoing.destroy())
              incoming.pipe(forwarded)
            })
            server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close().closeAllConnections())
        )
        const address = proxy.address()
        assert(typeof address === "object" && address !== null)
        const front = `http://127.0.0.1:${address.port}`
        const page = yield* Effect.flatMap(
          Effect.flatMap(Browser.browser, Browser.profile),
          (context) => step(() => context.newPage())
        )
        const strays: Array<string> = []
        page.on("response", (answer) => {
          if (answer.status() === 418 || !answer.url().startsWith(`${front}/sally/`)) strays.push(answer.url())
        })
        const credential = yield* code()
        yield* step(() => page.goto(`${front}/sally/pair#token=${credential}`))
        yield* step(() => page.waitForSelector("button[data-kind=primary][aria-disabled=false]"))
        yield* step(() => page.getByRole("button", { name: "Pair this browser" }).click())
        yield* step(() => page.waitForURL(`${front}/sally/`))
        yield* step(() => page.getByRole("link", { name: "Connections" }).click())
        yield* step(() => page.getByText("This device", { exact: true }).waitFor())
        yield* step(() => page.getByText("Live", { exact: true }).waitFor())
        assert.strictEqual(page.url(), `${front}/sally/connections`)
        yield* step(() => page.goto(`${front}/sally/connections/`))
        yield* step(() => page.getByText("Live", { exact: true }).waitFor())
        assert.deepStrictEqual(strays, [])
      }),
    300_000
  )

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
