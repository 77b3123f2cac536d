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

/** Lists the sessions beside that of the token. */
const others = (server: Sallyport.Server, token: string) =>
  Effect.map(Sallyport.get(server, "/api/auth/sessions", token), (answer) =>
    answer.json<{
      readonly sessions: ReadonlyArray<{ readonly current: boolean; readonly scopes: ReadonlyArray<string> }>
    }>().sessions.filter(({ current }) => !current))

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
        assert.deepStrictEqual(yield* step(() => page.locator(".sp-facts :is(dt, dd)").allInnerTexts()), [
          "Server",
          new URL(server.url).host,
          "Signs in",
          "owner",
          "Link",
          "“Ada's \u{1f4f1}”",
          "May",
          "watch runs and see who has access\nIt may not let other devices in.",
          "Ends",
          "after 30 days without use"
        ])
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
        assert.notMatch(yield* step(() => page.innerText("body")), /Signs in/)
        yield* step(() => page.goto(`${server.url}/pair#token=${code}`))
        yield* text(page, /^Pair this browser with /m)
        yield* step(() => page.reload())
        yield* step(() => page.getByLabel("Pairing code").waitFor())
        assert.strictEqual(yield* step(() => page.getByLabel("Pairing code").inputValue()), "")
        assert.isFalse(posts.includes("/api/auth/bootstrap"))
        assert.isFalse(yield* isSignedIn(page))
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
        const scopes = Effect.map(
          others(server, token),
          (sessions) => sessions.map(({ scopes }) => scopes.toSorted())
        )
        assert.deepStrictEqual(yield* scopes, [["access:read", "runs:read"]], "what the question said, and no more")
        const cookies = yield* step(() => context.cookies())

        // Signed in by now: the page says that another code is not needed here, and uses none.
        const again = yield* issue(server, token)
        yield* step(() => page.goto(`${server.url}/pair#token=${again.code}`))
        yield* text(page, /^This browser is paired already$/m)
        yield* picture(page, "pair-again")
        yield* click(page, "Continue")
        yield* text(page, signedIn)
        assert.lengthOf(yield* openLinks(server, token), 1)
        assert.lengthOf(yield* scopes, 1)
        assert.deepStrictEqual(
          (yield* step(() => context.cookies())).map(({ value }) => value),
          cookies.map(({ value }) => value)
        )
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
        const posts: Array<string> = []
        page.on("request", (request) => {
          if (request.method() === "POST") posts.push(new URL(request.url()).pathname)
        })
        const read = (wanted: string) =>
          Effect.gen(function*() {
            const told = page.locator("main [role=alert] strong")
            yield* step(() => told.waitFor())
            assert.deepStrictEqual(yield* step(() => told.allInnerTexts()), [wanted])
            assert.deepStrictEqual(yield* step(() => page.context().cookies()), [])
          })
        const open = (code: string) =>
          Effect.gen(function*() {
            yield* step(() => page.goto("about:blank"))
            yield* step(() => page.goto(`${server.url}/pair#token=${code}`))
          })
        yield* open(server.code)
        yield* read("This code was used already.")
        yield* picture(page, "pair-used")
        yield* open(revoked.code)
        yield* read("This code was withdrawn.")
        yield* open("7777-7777-7777-7778")
        yield* read("This code has a typing error.")
        assert.lengthOf(posts, 2, "a typing error costs no attempt")
        const never = yield* wrongCode
        yield* open(never)
        yield* read("The server does not know this code.")
        for (let attempt = 0; attempt < 5; attempt++) {
          yield* open(never)
          yield* step(() => page.locator("main [role=alert] strong").waitFor())
        }
        yield* text(page, /^Too many wrong codes\.\s+You can try again in \d+:\d\d\. Your code stays as it is\.$/m)
        yield* read("Too many wrong codes.")
        // It can be sent again when the time is over, not before, and still stands there.
        assert.strictEqual(yield* step(() => page.getByLabel("Pairing code").inputValue()), never)
        const asked = posts.length
        assert.strictEqual(
          yield* step(() => page.getByRole("button", { name: "Continue" }).getAttribute("aria-disabled")),
          "true"
        )
        yield* step(() => page.getByLabel("Pairing code").press("Enter"))
        assert.isFalse(yield* isSignedIn(page))
        assert.lengthOf(posts, asked)
        assert.isFalse(posts.includes("/api/auth/bootstrap"))
        assert.deepStrictEqual(yield* others(server, token), [])
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
        const posts: Array<string> = []
        page.on("request", (request) => {
          if (request.method() === "POST") posts.push(new URL(request.url()).pathname)
        })
        yield* step(() => page.goto(server.pairingUrl))
        yield* text(page, signedIn)
        assert.strictEqual(page.url(), `${server.url}/`)
        assert.deepStrictEqual(posts, ["/api/auth/bootstrap"])
        assert.isTrue(yield* isSignedIn(page))
        assert.strictEqual((yield* Sallyport.exchange(server, server.code)).status, 400, "the code is used")
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
        const answers: Array<string> = []
        other.on("response", (answer) => {
          if (answer.request().method() !== "POST") return
          answers.push(`${new URL(answer.url()).pathname} ${answer.status()}`)
        })
        yield* step(() => other.goto(evil.url))
        yield* step(() => other.waitForFunction(() => document.body.dataset.done === "yes", undefined, { polling: 50 }))
        // Each of them has come to the server, and was turned away there.
        assert.lengthOf(answers, 34)
        assert.deepStrictEqual(answers.filter((answer) => !/ 4\d\d$/.test(answer)), [])
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
