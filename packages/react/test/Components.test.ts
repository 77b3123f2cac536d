import { AxeBuilder } from "@axe-core/playwright"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import type { Page } from "playwright-core"
import { build } from "vite"
import * as Browser from "../../../test-support/browser.ts"
import { connect, having, network, start } from "../../client/test/support.ts"

const { step } = Browser

const sourceOf = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Bundles the test's page as a host would. */
const bundle = step(async () => {
  const built = await build({
    configFile: false,
    logLevel: "error",
    resolve: { conditions: ["sallyport-source", "module", "browser"] },
    // The tests run as "test", for which JSX would be compiled for development.
    oxc: { jsx: { runtime: "automatic", development: false } },
    define: { "process.env.NODE_ENV": JSON.stringify("production") },
    build: { write: false, lib: { entry: sourceOf("./programs/page.tsx"), formats: ["es"], fileName: "page" } }
  })
  const outputs = Array.isArray(built) ? built : [built]
  for (const output of outputs) {
    if (!("output" in output)) continue
    for (const chunk of output.output) if (chunk.type === "chunk") return chunk.code
  }
  throw new Error("nothing was built")
})

/** Serves the page under the policy of the pairing page, but for its nonces. */
const pageRoutes = (script: string) => {
  const style = NFS.readFileSync(sourceOf("../src/sallyport.css"), "utf8")
  const csp = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  const html = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Connections</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css"></head><body><div id="root"></div>
<script type="module" src="/page.js"></script></body></html>`
  return Layer.mergeAll(
    HttpRouter.add(
      "GET",
      "/connections",
      HttpServerResponse.text(html, { contentType: "text/html", headers: { "content-security-policy": csp } })
    ),
    HttpRouter.add("GET", "/page.js", HttpServerResponse.text(script, { contentType: "text/javascript" })),
    HttpRouter.add("GET", "/page.css", HttpServerResponse.text(style, { contentType: "text/css" }))
  )
}

const text = (page: Page, wanted: RegExp) =>
  step(() =>
    page.waitForFunction((source) => new RegExp(source).test(document.body.innerText), wanted.source, { polling: 50 })
  )

/** Starts a server with the page, and opens the page in a browser that is signed in. */
const opened = Effect.gen(function*() {
  const server = yield* start({ routes: pageRoutes(yield* bundle) })
  const wire = yield* network(server.port)
  const owner = yield* connect(server.url, having(yield* server.token()))
  const chromium = yield* Browser.browser
  const context = yield* Browser.profile(chromium)
  const page = yield* step(() => context.newPage())
  const problems: Array<string> = []
  page.on("pageerror", (error) => problems.push(String(error)))
  page.on("console", (message) => {
    if (message.text().includes("Content Security Policy")) problems.push(message.text())
  })
  const { code } = yield* Effect.map(owner.access.issueLink({ label: "this browser" }), ({ code }) => ({ code }))
  const posts: Array<string> = []
  page.on("request", (request) => {
    if (request.method() === "POST") posts.push(new URL(request.url()).pathname)
  })
  return { server, wire, owner, context, page, problems, code, posts }
})

/** Signs the page's browser in. */
const signIn = (page: Page, url: string, code: string) =>
  step(async () => {
    await page.goto(`${url}/connections`)
    await page.evaluate(
      (credential) =>
        fetch("/api/auth/bootstrap", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ credential, label: "Chromium" })
        }),
      code
    )
    await page.reload()
  })

const axe = Effect.fnUntraced(function*(page: Page, state: string) {
  for (const colorScheme of ["light", "dark"] as const) {
    for (const width of [360, 1280]) {
      yield* step(() => page.emulateMedia({ colorScheme }))
      yield* step(() => page.setViewportSize({ width, height: 900 }))
      const { violations } = yield* step(() => new AxeBuilder({ page }).analyze())
      const name = `${state}, ${colorScheme}, ${width} px`
      assert.deepStrictEqual(
        violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join()}`),
        [],
        name
      )
      const overflow = yield* step(() =>
        page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
      )
      assert.isAtMost(overflow, 0, name)
      const directory = process.env.SALLYPORT_SCREENSHOTS
      if (directory !== undefined) {
        yield* step(() => page.screenshot({ path: NPath.join(directory, `${state}-${colorScheme}-${width}.png`) }))
      }
    }
  }
})

describe("the connections in a browser", () => {
  it.live(
    "FEED-01 SESS-08 L-37: shows changes of others, revokes once after a question, and is told of its own end",
    () =>
      Effect.gen(function*() {
        const { code, owner, page, posts, problems, server, wire } = yield* opened
        yield* step(() => page.goto(`${wire.url}/connections`))
        yield* text(page, /This browser is not paired/)
        yield* axe(page, "unpaired")
        yield* signIn(page, wire.url, Redacted.value(code))
        yield* text(page, /Live[^]*Chromium[^]*This device/)

        // Another client makes a link, and another device comes in.
        yield* owner.access.issueLink({ label: "Grandma’s tablet" })
        yield* text(page, /Grandma’s tablet/)
        yield* server.token()
        yield* step(() =>
          page.waitForFunction(() => document.querySelectorAll("#devices li").length === 3, undefined, { polling: 50 })
        )
        yield* axe(page, "connections")

        // The question has its focus on what keeps the device, and Escape gives the focus back.
        const revoke = page.locator("#devices .sp-item[data-state=other] button").first()
        yield* step(() => revoke.focus())
        yield* step(() => page.keyboard.press("Enter"))
        yield* step(() => page.waitForSelector("dialog[open]"))
        const focused = () => step(() => page.evaluate(() => document.activeElement?.textContent))
        assert.strictEqual(yield* focused(), "Keep it")
        yield* axe(page, "revoke")
        yield* step(() => page.keyboard.press("Escape"))
        yield* step(() => page.waitForSelector("dialog", { state: "detached" }))
        assert.strictEqual(yield* focused(), "Revoke")

        posts.length = 0
        yield* step(() => revoke.click())
        yield* step(() =>
          page.evaluate(() => {
            const button = document.querySelector<HTMLButtonElement>("dialog .sp-b[data-kind=danger]")
            for (let click = 0; click < 4; click++) button?.click()
          })
        )
        yield* text(page, /was revoked\./)
        assert.deepStrictEqual(posts, ["/api/auth/sessions/revoke"])
        yield* step(() =>
          page.waitForFunction(() => document.querySelectorAll("#devices li").length === 2, undefined, { polling: 50 })
        )

        // A lost connection is told, what is known stays, and the page catches up by itself.
        wire.lead(1)
        wire.cutAll()
        yield* text(page, /The connection is lost[^]*Chromium/)
        wire.lead(server.port)
        yield* text(page, /Live/)

        // Whichever session is left of the two others revokes this browser.
        const last = yield* connect(server.url, having(yield* server.token()))
        yield* last.access.revokeOtherSessions
        yield* text(page, /This device was signed out/)
        assert.notInclude(yield* step(() => page.innerText("body")), "Grandma")
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "L-37: lets a device in by a link that is made once, and tells when that link was used",
    () =>
      Effect.gen(function*() {
        const { code, page, posts, problems, wire } = yield* opened
        yield* signIn(page, wire.url, Redacted.value(code))
        yield* text(page, /Live/)
        yield* step(() => page.getByRole("button", { name: "Let another device in" }).click())
        yield* step(() => page.getByLabel("Name (optional)").fill("A phone"))
        yield* axe(page, "let-in")
        posts.length = 0
        yield* step(() => page.getByRole("button", { name: "Make the link" }).dblclick())
        yield* step(() => page.waitForSelector(".sp-code"))
        assert.deepStrictEqual(posts, ["/api/auth/pairing-links"])
        yield* axe(page, "code")
        const shown = yield* step(() => page.innerText(".sp-code"))
        const other = yield* connect(wire.url, having(Redacted.make("none")))
        assert.deepStrictEqual((yield* other.access.preview(Redacted.make(shown))).scopes, [
          "runs:read",
          "runs:operate"
        ])
        yield* step(() =>
          page.evaluate(
            (subject_token) =>
              fetch("/oauth/token", {
                method: "POST",
                body: new URLSearchParams({
                  grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
                  subject_token_type: "urn:sallyport:token-type:bootstrap-credential",
                  subject_token
                })
              }),
            shown
          )
        )
        yield* text(page, /The device is in/)
        assert.notInclude(yield* step(() => page.innerText("body")), shown)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
