/**
 * Bundles the page that the tests open, serves it, and looks at it as people do.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import type { Page, Route } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import { sentence } from "../../client/test/support.ts"

const { step } = Browser

const sourceOf = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const build = async () => {
  // Only who builds needs it.
  const Vite = await import("vite")
  const built = await Vite.build({
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
}

/** Bundles the test's page as a host would, once for a test run. */
export const bundle = step(async () => {
  const directory = process.env["TEST_PROGRAMS"]
  if (directory === undefined) return build()
  const file = NPath.join(directory, "react-page.js")
  if (!NFS.existsSync(file)) {
    const own = `${file}.${process.pid}`
    NFS.writeFileSync(own, await build())
    NFS.renameSync(own, file)
  }
  return NFS.readFileSync(file, "utf8")
})

/** Lists the documents of the page under the policy of the pairing page, but for its nonces. */
export const documents = (script: string): ReadonlyArray<{
  readonly path: `/${string}`
  readonly body: string
  readonly contentType: string
  readonly headers: Record<string, string>
}> => {
  const csp = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  const html = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Connections</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css"></head><body><div id="root"></div>
<script type="module" src="/page.js"></script></body></html>`
  return [
    ...(["/connections", "/pairing", "/running", "/many"] as const).map((path) => ({
      path,
      body: html,
      contentType: "text/html",
      headers: { "content-security-policy": csp }
    })),
    // A page is loaded many times, and its script changes with no test.
    { path: "/page.js", body: script, contentType: "text/javascript", headers: { "cache-control": "max-age=3600" } },
    {
      path: "/page.css",
      body: NFS.readFileSync(sourceOf("../src/sallyport.css"), "utf8"),
      contentType: "text/css",
      headers: {}
    }
  ]
}

/** Serves the page beside the routes of a server. */
export const pageRoutes = (script: string) =>
  Layer.mergeAll(
    Layer.empty,
    ...documents(script).map(({ body, contentType, headers, path }) =>
      HttpRouter.add("GET", path, HttpServerResponse.text(body, { contentType, headers }))
    )
  )

/** Waits until the page shows a text. If it never does, the test fails with what it shows. */
export const text = (page: Page, wanted: RegExp) =>
  step(() =>
    page.waitForFunction(({ flags, source }) => new RegExp(source, flags).test(document.body.innerText), {
      source: wanted.source,
      flags: wanted.flags
    }, {
      polling: 50,
      timeout: 60_000
    }).catch(async () => assert.match(await page.innerText("body"), wanted))
  )

/** Waits for a text that an action shows for a moment only. The text is looked for before the action begins. */
export const textMeanwhile = <A, E, R>(page: Page, wanted: RegExp, action: Effect.Effect<A, E, R>) =>
  Effect.all([text(page, wanted), action], { concurrency: 2, discard: true })

/** Signs the page's browser in. */
export const signIn = (page: Page, url: string, code: string) =>
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

/** Collects what the page reports as an error, or as refused by its policy. */
export const problemsOf = (page: Page): ReadonlyArray<string> => {
  const problems: Array<string> = []
  page.on("pageerror", (error) => problems.push(String(error)))
  page.on("console", (message) => {
    if (message.text().includes("Content Security Policy")) problems.push(message.text())
  })
  return problems
}

/** Collects the paths that the page posts to. */
export const postsOf = (page: Page): Array<string> => {
  const posts: Array<string> = []
  page.on("request", (request) => {
    if (request.method() === "POST") posts.push(new URL(request.url()).pathname)
  })
  return posts
}

/** Answers as the server does that refuses. */
export const refuse = (status: number, error: { readonly _tag: string; readonly code: string }) => (route: Route) =>
  route.fulfill({
    status,
    contentType: "application/json",
    body: JSON.stringify({ message: sentence, retryable: false, traceId: "0".repeat(32), ...error })
  })

/** Finds nothing to say against a state of the page, light and dark, on a phone and on a desk. */
export const axe = Effect.fnUntraced(function*(page: Page, state: string) {
  const size = page.viewportSize()
  for (const colorScheme of ["light", "dark"] as const) {
    for (const width of [360, 1280]) {
      yield* step(() => page.emulateMedia({ colorScheme, reducedMotion: "reduce" }))
      yield* step(() => page.setViewportSize({ width, height: 900 }))
      const name = `${state}, ${colorScheme}, ${width} px`
      assert.deepStrictEqual(yield* Browser.violations(page), [], name)
      const overflow = yield* step(() =>
        page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
      )
      assert.isAtMost(overflow, 0, name)
      const directory = process.env.SALLYPORT_SCREENSHOTS
      if (directory !== undefined) {
        yield* step(() =>
          page.screenshot({ path: NPath.join(directory, `${state}-${colorScheme}-${width}.png`), fullPage: true })
        )
      }
    }
  }
  if (size !== null) yield* step(() => page.setViewportSize(size))
})
