import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Browser from "../../../test-support/browser.ts"
import { connect, having, network, start } from "../../client/test/support.ts"
import { axe, bundle, pageRoutes, postsOf, problemsOf, signIn, text } from "./support.ts"

const { step } = Browser

/** Starts a server with the page, and opens the page in a browser that is signed in. */
const opened = Effect.gen(function*() {
  const server = yield* start({ routes: pageRoutes(yield* bundle) })
  const wire = yield* network(server.port)
  const owner = yield* connect(server.url, having(yield* server.token()))
  const chromium = yield* Browser.browser
  const context = yield* Browser.profile(chromium)
  const page = yield* step(() => context.newPage())
  const problems = problemsOf(page)
  const { code } = yield* Effect.map(owner.access.issueLink({ label: "this browser" }), ({ code }) => ({ code }))
  const posts = postsOf(page)
  return { server, wire, owner, context, page, problems, code, posts }
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
        const revoke = page.locator("#devices .sp-item[data-state=other] .sp-do button").first()
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
        yield* step(() => page.waitForSelector("dialog .sp-copy code"))
        assert.deepStrictEqual(posts, ["/api/auth/pairing-links"])
        yield* axe(page, "code")
        const shown = yield* step(() => page.locator("dialog .sp-copy code").first().innerText())
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
        yield* text(page, /“[^”]+” is in|The device is in/)
        assert.notInclude(yield* step(() => page.innerText("body")), shown)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
