import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Redacted from "effect/Redacted"
import type { BrowserContext, Page } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import * as World from "./connectSupport.ts"
import * as Pages from "./pages.ts"
import { start } from "./support.ts"

const { step } = Browser

interface Seen {
  readonly held?: boolean
  readonly thumbprint?: string
  readonly verificationCode?: string
  readonly method?: string
  readonly events?: number
  readonly error?: string
  readonly message?: string
}

/** Opens the page with an order, and returns what it shows when it shows something by a name. */
const open = (page: Page, url: string, order: Readonly<Record<string, unknown>>) =>
  Effect.as(
    step(() => page.goto(`${url}/#${encodeURIComponent(JSON.stringify(order))}`)),
    seenOf(page)
  )

const seenOf = (page: Page) => (name: keyof Seen): Effect.Effect<Seen> =>
  step(async () => {
    await page.waitForFunction(
      (name) => {
        const seen = JSON.parse(document.body?.dataset.seen ?? "{}")
        return name in seen || "error" in seen
      },
      name,
      { polling: 50 }
    )
    return page.evaluate((): Seen => JSON.parse(document.body.dataset.seen ?? "{}"))
  })

const newPage = (context: BrowserContext) => step(() => context.newPage())

/** What any script of the page can reach of the key. */
const exposed = (page: Page) =>
  step(() =>
    page.evaluate(async () => {
      const done = (request: IDBRequest) =>
        new Promise((resolve, reject) => {
          request.addEventListener("success", resolve)
          request.addEventListener("error", reject)
        })
      const opening = indexedDB.open("sallyport-device-key")
      await done(opening)
      const get = opening.result.transaction("keys").objectStore("keys").get("device-key")
      await done(get)
      opening.result.close()
      const { privateKey } = get.result
      const exported: Array<string> = []
      for (const format of ["jwk", "pkcs8", "raw", "spki"] as const) {
        await crypto.subtle.exportKey(format as "jwk", privateKey).then(() => exported.push(format), () => undefined)
      }
      return { type: privateKey.type, extractable: privateKey.extractable, exported }
    })
  )

/** Puts another public key beside the private one. */
const damage = (page: Page) =>
  step(() =>
    page.evaluate(async () => {
      const done = (request: IDBRequest) =>
        new Promise((resolve, reject) => {
          request.addEventListener("success", resolve)
          request.addEventListener("error", reject)
        })
      const algorithm = { name: "ECDSA", namedCurve: "P-256" }
      const other = await crypto.subtle.generateKey(algorithm, false, ["sign", "verify"])
      const opening = indexedDB.open("sallyport-device-key")
      await done(opening)
      const keys = opening.result.transaction("keys", "readwrite").objectStore("keys")
      const get = keys.get("device-key")
      await done(get)
      await done(keys.put({ ...get.result, publicKey: other.publicKey }, "device-key"))
      opening.result.close()
    })
  )

describe("a page with a key of its own", () => {
  it.live(
    "CONN-08, CONN-11 asks a relay of another origin, shows the code, is approved, goes on by itself, and is the same device after a reload",
    () =>
      Effect.gen(function*() {
        const site = yield* start({ routes: Pages.layer("programs/connectPage") })
        const world = yield* World.start({
          dpop: { nonceLifetime: "1 hour" },
          routes: HttpRouter.cors({
            allowedOrigins: [site.url],
            exposedHeaders: ["dpop-nonce", "retry-after"],
            maxAge: 600
          })
        })
        const context = yield* Browser.profile(yield* Browser.browser)
        const page = yield* newPage(context)
        const problems: Array<string> = []
        page.on("pageerror", (error) => problems.push(String(error)))

        const order = { relayUrl: world.relay.url, environmentId: world.environmentId }
        const shows = yield* open(page, site.url, { ...order, code: Redacted.value(yield* world.code) })
        const waiting = yield* shows("verificationCode")
        assert.isUndefined(waiting.error, waiting.message)
        const [client] = yield* world.clients.list()
        assert.strictEqual(client?.proofKeyThumbprint, waiting.thumbprint)
        assert.strictEqual(client?.verificationCode, waiting.verificationCode)
        assert.strictEqual(client?.deviceType, "browser")
        yield* world.clients.decide({ client: waiting.thumbprint ?? "", decision: "approved", by: "operator" })
        const connected = yield* shows("events")
        assert.deepInclude(connected, { method: "dpop-access-token", events: 4 })
        assert.deepStrictEqual(yield* exposed(page), { type: "private", extractable: false, exported: [] })

        // The same device is let in at once.
        yield* step(() => page.reload())
        const reloaded = yield* shows("events")
        assert.strictEqual(reloaded.thumbprint, waiting.thumbprint)
        assert.isUndefined(reloaded.verificationCode)
        assert.lengthOf(yield* world.clients.list(), 1)
        assert.deepStrictEqual(problems, [])

        // If the relay does not allow the origin, the page is told that the relay cannot be reached.
        const closed = yield* World.start()
        const other = yield* newPage(context)
        const refused = yield* (yield* open(other, site.url, {
          relayUrl: closed.relay.url,
          environmentId: closed.environmentId
        }))("error")
        assert.strictEqual(refused.error, "Unreachable")
      }),
    300_000
  )

  it.live(
    "has one key in tabs that start together, and says so if it is damaged or cannot be read",
    () =>
      Effect.gen(function*() {
        const site = yield* start({ routes: Pages.layer("programs/connectPage") })
        const context = yield* Browser.profile(yield* Browser.browser)
        const pages = yield* Effect.replicateEffect(newPage(context), 4)
        const waiting = yield* Effect.forEach(
          pages,
          (page) => Effect.tap(open(page, site.url, { held: true }), (shows) => shows("held")),
          { concurrency: "unbounded" }
        )
        const starter = yield* newPage(context)
        yield* step(() => starter.goto(`${site.url}/api/auth/session`))
        yield* step(() => starter.evaluate(() => localStorage.setItem("go", "go")))
        const seen = yield* Effect.forEach(waiting, (shows) => shows("thumbprint"))
        const [first] = seen
        assert.match(first?.thumbprint ?? "", /^[\w-]{43}$/)
        for (const { thumbprint } of seen) assert.strictEqual(thumbprint, first?.thumbprint)

        const [page] = pages
        if (page === undefined) return assert.fail("no page")
        const shows = seenOf(page)
        yield* damage(page)
        yield* open(page, site.url, {})
        yield* step(() => page.reload())
        const damaged = yield* shows("error")
        assert.deepInclude(damaged, { error: "KeyDamaged" })
        assert.isUndefined(damaged.thumbprint)

        // As if the browser is told to keep nothing, or the disk is full.
        for (const name of ["SecurityError", "QuotaExceededError"]) {
          const blocked = yield* newPage(context)
          yield* step(() =>
            blocked.addInitScript((name) => {
              indexedDB.open = () => {
                throw new DOMException("no", name)
              }
            }, name)
          )
          const told = yield* (yield* open(blocked, site.url, {}))("error")
          assert.strictEqual(told.error, "KeyStoreUnavailable")
          assert.include(told.message, name === "QuotaExceededError" ? "no room" : "keeps nothing")
          assert.isUndefined(told.thumbprint)
        }
      }),
    300_000
  )
})
