import { assert, describe, it } from "@effect/vitest"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as NPath from "node:path"
import type { Page } from "playwright-core"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Browser from "../../../test-support/browser.ts"
import * as Programs from "../../../test-support/programs.ts"
import { click, neighbour, pair, signedIn, text } from "./pages.ts"

const { step } = Browser

/** Keeps a picture of the page, if a directory for pictures is given. */
const picture = (page: Page, name: string) =>
  step(async () => {
    const directory = process.env.SALLYPORT_SCREENSHOTS
    if (directory === undefined) return
    for (const colorScheme of ["dark", "light"] as const) {
      await page.emulateMedia({ colorScheme })
      await page.screenshot({ path: NPath.join(directory, `${name}-${colorScheme}.png`) })
    }
  })

/** Issues a code as the operator's own program does. */
const issue = (server: Sallyport.Server, token: string, payload: object = {}) =>
  Effect.map(
    Sallyport.post(server, "/api/auth/pairing-links", token, payload),
    (answer) => answer.json<{ readonly code: string; readonly link: { readonly id: string } }>()
  )

const openLinks = (server: Sallyport.Server, token: string) =>
  Effect.map(
    Sallyport.get(server, "/api/auth/pairing-links", token),
    (answer) => answer.json<{ readonly links: ReadonlyArray<{ readonly id: string }> }>().links.map(({ id }) => id)
  )

/** Makes a code that no server has issued. */
const wrongCode = Effect.map(PairingCode.generate("device"), Redacted.value).pipe(Effect.provide(NodeCrypto.layer))

const isSignedIn = (page: Page) =>
  step(() =>
    page.evaluate(async () => {
      const state: { readonly authenticated: boolean } = await (await fetch("/api/auth/session")).json()
      return state.authenticated
    })
  )

describe("the pairing page in Chromium", () => {
  it.live(
    "BOOT-14 C-40: an opened pairing address signs no one in; it says what the code gives, and pairs at a click",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serve(yield* Sallyport.freshState)
        const token = yield* Sallyport.pair(server)
        const { code } = yield* issue(server, token, { label: "Ada's \u{1f4f1}", scopes: ["runs:read", "access:read"] })
        const chromium = yield* Browser.browser
        const context = yield* Browser.profile(chromium)
        const page = yield* step(() => context.newPage())
        const posts: Array<string> = []
        page.on("request", (request) => {
          if (request.method() === "POST") posts.push(new URL(request.url()).pathname)
        })

        yield* step(() => page.goto(`${server.url}/pair#token=${code}`))
        yield* text(page, /^Pair this browser with 127\.0\.0\.1:\d+\?$/m)
        assert.strictEqual(page.url(), `${server.url}/pair`)
        const shown = yield* step(() => page.innerText("main"))
        for (const part of ["owner", "“Ada's \u{1f4f1}”", "watch runs and see who has access", "30 days without use"]) {
          assert.include(shown, part)
        }
        yield* picture(page, "pair-ask")
        // Neither a key that is still held down nor a reload is an answer.
        yield* step(() => page.keyboard.press("Enter"))
        yield* step(() => page.keyboard.press("Space"))
        assert.deepStrictEqual(posts, ["/api/auth/bootstrap/preview"])
        assert.deepStrictEqual(yield* step(() => context.cookies()), [])
        assert.isFalse(yield* isSignedIn(page))
        yield* click(page, "Don’t pair")
        yield* text(page, /^Nothing was changed/m)
        assert.lengthOf(yield* openLinks(server, token), 1)

        yield* step(() => page.goto("about:blank"))
        posts.length = 0
        yield* step(() => page.goto(`${server.url}/pair#token=${code}`))
        yield* step(() => page.waitForSelector("button[data-kind=primary][aria-disabled=false]"))
        yield* step(() =>
          page.evaluate(() => {
            const button = document.querySelector<HTMLButtonElement>("button[data-kind=primary]")
            for (let click = 0; click < 4; click++) button?.click()
          })
        )
        yield* text(page, signedIn)
        assert.deepStrictEqual(posts, ["/api/auth/bootstrap/preview", "/api/auth/bootstrap"])
        assert.lengthOf(yield* openLinks(server, token), 0)

        // Signed in by now: the page says that another code is not needed here, and uses none.
        const again = yield* issue(server, token)
        yield* step(() => page.goto(`${server.url}/pair#token=${again.code}`))
        yield* text(page, /^This browser is paired already$/m)
        yield* picture(page, "pair-again")
        yield* click(page, "Continue")
        yield* text(page, signedIn)
        assert.lengthOf(yield* openLinks(server, token), 1)
      }),
    Programs.timeout
  )

  it.live(
    "BOOT-05 BOOT-14 L-15: a code that was used, revoked or mistyped, one that never was, and too many are told apart",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serveWith(
          { SALLYPORT_PAIRING_ATTEMPTS_PER_SOURCE_LIMIT: "5" },
          yield* Sallyport.freshState
        )
        const token = yield* Sallyport.pair(server)
        const revoked = yield* issue(server, token)
        yield* Sallyport.post(server, "/api/auth/pairing-links/revoke", token, { id: revoked.link.id })
        const chromium = yield* Browser.browser
        const page = yield* Effect.flatMap(
          Browser.profile(chromium),
          (context) => step(() => context.newPage())
        )
        const sentences: Array<string> = []
        const read = (wanted: RegExp) =>
          Effect.gen(function*() {
            const told = page.locator("main [role=alert] strong")
            yield* step(() => told.waitFor())
            const sentence = yield* step(() => told.innerText())
            assert.match(sentence, wanted)
            sentences.push(sentence)
          })
        const open = (code: string) =>
          Effect.gen(function*() {
            yield* step(() => page.goto("about:blank"))
            yield* step(() => page.goto(`${server.url}/pair#token=${code}`))
          })
        yield* open(server.code)
        yield* read(/used/)
        yield* picture(page, "pair-used")
        yield* open(revoked.code)
        yield* read(/withdrawn/)
        yield* open("7777-7777-7777-7778")
        yield* read(/typing/)
        const never = yield* wrongCode
        yield* open(never)
        yield* read(/does not know/)
        for (let attempt = 0; attempt < 5; attempt++) {
          yield* open(never)
          yield* step(() => page.locator("main [role=alert] strong").waitFor())
        }
        yield* text(page, /^Too many wrong codes\.\s+You can try again in/m)
        assert.lengthOf(new Set(sentences), 4)
      }),
    Programs.timeout
  )

  it.live(
    "BOOT-14: under desktop-managed-local the window that the application opens is signed in without a question",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serve(yield* Sallyport.freshState, "--policy", "desktop-managed-local")
        const chromium = yield* Browser.browser
        const page = yield* Effect.flatMap(
          Browser.profile(chromium),
          (context) => step(() => context.newPage())
        )
        yield* step(() => page.goto(server.pairingUrl))
        yield* text(page, signedIn)
      }),
    Programs.timeout
  )

  it.live(
    "HTTP-02 HTTP-08 C-20 C-44: a page on another port signs no one out, locks no pairing, spends no code and hides no cookie",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serve(yield* Sallyport.freshState)
        const token = yield* Sallyport.pair(server)
        const { code } = yield* issue(server, token)
        const own = yield* issue(server, token)
        const name = `sallyport_session_${new URL(server.url).port}`
        const script = `
          const send = (path, type, body) => fetch("${server.url}" + path, {
            method: "POST", mode: "no-cors", credentials: "include", headers: { "content-type": type }, body
          }).catch(() => {})
          const form = (subject_token) => new URLSearchParams({
            grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
            subject_token_type: "urn:sallyport:token-type:bootstrap-credential",
            subject_token
          }).toString()
          const wrong = "${yield* wrongCode}"
          for (let n = 0; n < 15; n++) {
            await send("/oauth/token", "application/x-www-form-urlencoded", form(wrong))
            await send("/api/auth/bootstrap", "text/plain", JSON.stringify({ credential: wrong }))
          }
          await send("/oauth/token", "application/x-www-form-urlencoded", form("${code}"))
          await send("/api/auth/bootstrap", "text/plain", JSON.stringify({ credential: "${code}" }))
          await send("/api/auth/logout", "text/plain", "")
          await send("/api/auth/sessions/revoke-others", "text/plain", "")
          document.body.dataset.done = "yes"
        `
        const evil = yield* neighbour(() => ({
          body: `<!doctype html><body><script type="module">${script}</script>`,
          headers: {
            "set-cookie": ["/api", "/api/auth", "/api/auth/session"].map((path) =>
              `${name}=x; Path=${path}; SameSite=Lax`
            )
          }
        }))
        const chromium = yield* Browser.browser
        const context = yield* Browser.profile(chromium)
        const page = yield* step(() => context.newPage())
        yield* pair(page, `${server.url}/pair#token=${own.code}`)

        const other = yield* step(() => context.newPage())
        yield* step(() => other.goto(evil.url))
        yield* step(() => other.waitForFunction(() => document.body.dataset.done === "yes", undefined, { polling: 50 }))
        assert.isAtLeast((yield* step(() => context.cookies(`${server.url}/api/auth/session`))).length, 4)

        yield* step(() => page.reload())
        yield* text(page, signedIn)
        assert.lengthOf(yield* openLinks(server, token), 1, "the code is unspent")
        const listed = yield* Sallyport.get(server, "/api/auth/sessions", token)
        assert.lengthOf(listed.json<{ readonly sessions: ReadonlyArray<unknown> }>().sessions, 2)
        assert.strictEqual((yield* Sallyport.exchange(server, code)).status, 200, "the right code is taken at once")

        yield* click(page, "Sign out here")
        yield* text(page, /^This device was signed out$/m)
        assert.isFalse(yield* isSignedIn(page))
        const left = yield* step(() => context.cookies(`${server.url}/api/auth/logout`))
        assert.deepStrictEqual(left.map(({ path }) => path), [], "the cookies of the paths that matter are gone too")
      }),
    Programs.timeout
  )
})
