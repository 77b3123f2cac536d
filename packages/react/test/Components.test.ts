import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/client/AccessFeed"
import * as Connection from "@sallyport/client/Connection"
import * as Credentials from "@sallyport/client/Credentials"
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { encode } from "uqr"
import * as Browser from "../../../test-support/browser.ts"
import { type Client, connect, having, network, sentence, start } from "../../client/test/support.ts"
import { axe, bundle, pageRoutes, postsOf, problemsOf, refuse, signIn, text, textMeanwhile } from "./support.ts"

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

/** Follows as a device that is here. */
const feedOf = (client: Client) =>
  Effect.map(
    Layer.build(AccessFeed.layer.pipe(Layer.provide(Layer.succeed(Connection.Connection, client.connection)))),
    (context) => Context.get(context, AccessFeed.AccessFeed)
  )

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
        const witness = yield* connect(server.url, having(yield* server.token(["access:read"])))
        assert.lengthOf(
          yield* witness.access.sessions,
          3,
          "this browser, what is left of the two others, and the witness"
        )

        // A lost connection is told, what is known stays, and the page catches up by itself.
        wire.lead(1)
        wire.cutAll()
        yield* text(page, /The connection is lost[^]*Chromium/)
        assert.notMatch(yield* step(() => page.innerText("body")), /^Live$/m)
        wire.lead(server.port)
        yield* text(page, /^Live$/m)
        assert.notMatch(yield* step(() => page.innerText("body")), /The connection is lost|Reconnecting/)

        // Whichever session is left of the two others revokes this browser.
        const last = yield* connect(server.url, having(yield* server.token()))
        yield* last.access.revokeOtherSessions
        yield* text(page, /^This device was revoked$/m)
        assert.notMatch(yield* step(() => page.innerText("body")), /Grandma|Devices|Activity|Live/)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "L-37: lets a device in by a link that is made once, and tells when that link was used",
    () =>
      Effect.gen(function*() {
        const { code, owner, page, posts, problems, wire } = yield* opened
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
        yield* text(page, /^(?:“[^”]+”|The device) is in$/m)
        const after = yield* step(() => page.innerText("dialog"))
        assert.notInclude(after, shown)
        assert.notMatch(after, /Waiting for the device|Scan this|Withdraw this link/)
        // By the link's own session, as the list on the server has it.
        assert.deepStrictEqual(yield* owner.access.links, [])
        assert.deepStrictEqual(
          (yield* owner.access.sessions).map(({ scopes }) => scopes.toSorted().join(" ")).filter((scopes) =>
            scopes === "runs:operate runs:read"
          ),
          ["runs:operate runs:read"]
        )
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "SESS-13 L-37: a revocation names and counts what ends while it asks, and a device that goes meanwhile is told",
    () =>
      Effect.gen(function*() {
        const { code, owner, page, posts, problems, wire } = yield* opened
        yield* signIn(page, wire.url, Redacted.value(code))
        // A device that comes in from now on is new since the last visit.
        yield* text(page, /Live[^]*This device/)
        // The browser lets a phone in, the phone a tablet, which makes a link.
        const letIn = (from: typeof owner, label: string) =>
          Effect.gen(function*() {
            const { code } = yield* from.access.issueLink({ label })
            const jar = yield* connect(wire.url, Credentials.layerCookieJar)
            yield* jar.access.pair({ code, label })
            return jar
          })
        const phone = yield* letIn(owner, "Phone")
        const tablet = yield* letIn(phone, "Kitchen tablet")
        yield* tablet.access.issueLink({ label: "Grandma’s" })
        yield* Effect.forkScoped(Stream.runDrain((yield* feedOf(phone)).follow))
        yield* text(page, /Phone[^]*Kitchen tablet/)
        yield* text(page, /Phone\s+New since your last visit\s+Here now/)

        const row = page.locator("#devices li", { has: page.locator(".sp-name", { hasText: "Phone" }) })
        yield* step(() => row.getByText("Let in 1 other").click())
        yield* axe(page, "device")
        yield* step(() => page.getByRole("button", { name: "Revoke Phone" }).click())
        yield* text(page, /It is signed out at once\. 1 open connection closes\./)
        yield* text(page, /Also revoke what it let in\s+Kitchen tablet\. It stays signed in otherwise\./)
        yield* axe(page, "revoke-counts")
        yield* step(() => page.getByLabel(/Also revoke what it let in/).check())
        posts.length = 0
        // What goes leaves its place for a moment later, so that nothing moves under a pointer.
        const leaving = /Signed out by owner\./
        yield* textMeanwhile(page, leaving, step(() => page.locator("dialog [data-kind=danger]").dblclick()))
        yield* text(page, /Phone was revoked\. So was 1 other\. 1 connection closed\. 1 open link stopped working\./)
        assert.deepStrictEqual(posts, ["/api/auth/sessions/revoke"])
        assert.strictEqual(yield* step(() => page.evaluate(() => document.activeElement?.id)), "devices-h")
        for (const ended of [phone, tablet]) assert.isFalse((yield* ended.access.refresh).authenticated)
        assert.deepStrictEqual(yield* owner.access.links, [])

        const guest = yield* letIn(owner, "Guest")
        yield* text(page, /Guest/)
        yield* step(() => page.getByRole("button", { name: "Revoke Guest" }).click())
        yield* guest.access.logout
        yield* text(page, /Revoke Guest\?\s+Signed out by owner\./)
        assert.strictEqual(yield* step(() => page.locator("dialog [data-kind=danger]").count()), 0)
        yield* step(() => page.getByRole("button", { name: "Close" }).click())

        yield* letIn(owner, "One more")
        yield* text(page, /One more/)
        yield* step(() => page.getByRole("button", { name: "Revoke all others…" }).click())
        yield* text(page, /are signed out at once\./)
        yield* axe(page, "revoke-others")
        assert.strictEqual(yield* step(() => page.evaluate(() => document.activeElement?.textContent)), "Keep them")
        yield* step(() => page.locator("dialog [data-kind=danger]").dblclick())
        yield* text(page, /\d devices revoked\./)
        yield* text(page, /No other device is in\./)
        for (const ended of [owner, guest]) assert.isFalse((yield* ended.access.refresh).authenticated)
        assert.lengthOf(yield* step(() => page.locator("#devices li").all()), 1)
        yield* text(page, /^Live$/m)
        assert.deepStrictEqual(posts.slice(1), ["/api/auth/sessions/revoke-others"])
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "SESS-17: a device is renamed by the keyboard alone, and a link says how long it and its device last",
    () =>
      Effect.gen(function*() {
        const { code, owner, page, problems, wire } = yield* opened
        yield* signIn(page, wire.url, Redacted.value(code))
        yield* text(page, /Chromium[^]*This device/)
        yield* step(() => page.locator("#devices summary").first().focus())
        yield* step(() => page.keyboard.press("Enter"))
        yield* step(() => page.keyboard.press("Tab"))
        yield* step(() => page.keyboard.press("Enter"))
        yield* step(() => page.waitForSelector("dialog[open]"))
        yield* step(() => page.keyboard.press("ControlOrMeta+A"))
        yield* step(() => page.keyboard.type("Ada’s laptop \u{1f4bb}"))
        yield* axe(page, "rename")
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /Chromium is called Ada’s laptop \u{1f4bb} now\./u)
        yield* text(page, /Ada’s laptop \u{1f4bb}\s+This device/u)

        yield* text(page, /owner renamed Chromium to Ada’s laptop \u{1f4bb}\./u)
        yield* step(() => page.getByRole("button", { name: "Let another device in" }).click())
        for (const choice of ["One by one", "1 day", "20 minutes"]) {
          yield* step(() => page.getByText(choice, { exact: true }).click())
        }
        yield* step(() => page.getByLabel("See who has access").check())
        yield* axe(page, "let-in-one-by-one")
        yield* step(() => page.getByRole("button", { name: "Make the link" }).click())
        yield* step(() => page.waitForSelector("dialog .sp-copy code"))
        const [link] = yield* owner.access.links
        assert(link !== undefined)
        assert.deepStrictEqual([...link.scopes].sort(), ["access:read", "runs:read"])
        const seconds = (from: DateTime.Utc, to: DateTime.Utc) =>
          Math.round((to.epochMilliseconds - from.epochMilliseconds) / 1000)
        assert.strictEqual(seconds(link.createdAt, link.expiresAt), 1200)
        assert.isNotNull(link.sessionEndsAt)
        assert.strictEqual(link.sessionEndsAt === null ? 0 : seconds(link.createdAt, link.sessionEndsAt), 86_400)

        // It is withdrawn elsewhere, and the same is made again.
        yield* owner.access.revokeLink(link.id)
        yield* text(page, /owner withdrew this link\./)
        yield* axe(page, "link-withdrawn")
        yield* step(() => page.route("**/pairing-links", refuse(409, { _tag: "Conflict", code: "too_many_links" })))
        yield* step(() => page.getByRole("button", { name: "Make the same link again" }).click())
        yield* step(() => page.locator("dialog [role=alert]", { hasText: sentence }).waitFor())
        yield* step(() => page.unroute("**/pairing-links"))
        yield* step(() => page.getByRole("button", { name: "Make the same link again" }).dblclick())
        yield* step(() => page.waitForSelector("dialog .sp-copy code"))
        const again = yield* owner.access.links
        assert.deepStrictEqual(again.map(({ scopes }) => [...scopes].sort()), [["access:read", "runs:read"]])
        // Another device's pairing clears no link.
        const other = yield* owner.access.issueLink()
        const jar = yield* connect(wire.url, Credentials.layerCookieJar)
        yield* jar.access.pair({ code: other.code, label: "Another" })
        yield* text(page, /Another/)
        yield* text(page, /Waiting for the device\./)

        // A name of the greatest length widens nothing, wherever it stands.
        yield* step(() => page.keyboard.press("Escape"))
        const another = (yield* owner.access.sessions).find(({ device }) => device.label === "Another")
        assert(another !== undefined)
        yield* owner.access.renameSession(another.id, "W".repeat(128))
        yield* step(() => page.getByRole("button", { name: `Revoke ${"W".repeat(128)}` }).click())
        yield* axe(page, "long-name")
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "C-43: shows a link as a picture under an address that others can reach, and copies it also if the browser has no clipboard",
    () =>
      Effect.gen(function*() {
        const way = yield* network(0)
        const url = `http://desk.localhost:${way.port}`
        const server = yield* start({ routes: pageRoutes(yield* bundle), publicUrl: url })
        way.lead(server.port)
        const chromium = yield* Browser.browser
        const page = yield* Effect.flatMap(Browser.profile(chromium), (context) => step(() => context.newPage()))
        const problems = problemsOf(page)
        // As a page without https has it.
        yield* step(() => page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined })))
        yield* signIn(page, url, Redacted.value(yield* server.code()))
        yield* text(page, /Live/)
        yield* step(() => page.getByRole("button", { name: "Let another device in" }).click())
        yield* step(() => page.getByRole("button", { name: "Make the link" }).click())
        yield* text(page, /Scan this with the other device/)
        const [code = "", address = ""] = yield* step(() => page.locator("dialog .sp-copy code").allInnerTexts())
        assert.strictEqual(address, `${url}/pairing#token=${code}`)
        const { data, size } = encode(address, { ecc: "M", border: 2 })
        const picture = page.getByRole("img", { name: "QR code of the pairing address" })
        assert.strictEqual(yield* step(() => picture.getAttribute("viewBox")), `0 0 ${size} ${size}`)
        assert.strictEqual(
          (yield* step(() => picture.locator("path").getAttribute("d")))?.split("M").length,
          data.flat().filter((isDark) => isDark).length + 1
        )
        yield* axe(page, "link")
        const copy = step(() => page.getByRole("button", { name: "Copy the address" }).click())
        yield* textMeanwhile(page, /Copied/, copy)
        yield* step(() => page.evaluate(() => Object.assign(document, { execCommand: () => false })))
        yield* step(() => page.getByRole("button", { name: "Copy the code" }).click())
        yield* text(page, /The text is selected: copy it by hand\./)
        assert.strictEqual(yield* step(() => page.evaluate(() => String(getSelection()))), code)

        // The device that used it is named, and can be turned out from here.
        const jar = yield* connect(server.url, Credentials.layerCookieJar)
        yield* jar.access.pair({ code: Redacted.make(code), label: "Safari on iPad" })
        yield* text(page, /“Safari on iPad” is in[^]*It used the link just now, from 127\.0\.0\.1, this machine\./)
        yield* axe(page, "link-used")
        yield* step(() => page.getByRole("button", { name: "Revoke it" }).dblclick())
        yield* step(() => page.waitForSelector("dialog", { state: "detached" }))
        assert.isFalse((yield* jar.access.refresh).authenticated)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "FEED-01: reads older activity on request, and searches on the server",
    () =>
      Effect.gen(function*() {
        const { code, owner, page, problems, wire } = yield* opened
        for (let link = 0; link < 130; link++) {
          const issued = yield* owner.access.issueLink({ label: `Link ${link}` })
          yield* owner.access.revokeLink(issued.link.id)
        }
        yield* signIn(page, wire.url, Redacted.value(code))
        yield* text(page, /owner withdrew the link “Link 129”\./)
        assert.notInclude(yield* step(() => page.innerText("#activity")), "“Link 2”")
        assert.notInclude(yield* step(() => page.innerText("#activity")), "is kept for", "no sweeper runs here")
        const sentences = step(() => page.locator("#activity li > span").allInnerTexts())
        yield* step(() => page.getByRole("button", { name: "Show older", exact: true }).dblclick())
        yield* text(page, /owner made the link “Link 2”, for one device\./)

        yield* step(() => page.keyboard.press("/"))
        yield* step(() => page.keyboard.type("link 77"))
        yield* text(page, /^2 found$/m)
        assert.deepStrictEqual(yield* sentences, [
          "owner withdrew the link “Link 77”.",
          "owner made the link “Link 77”, for one device."
        ])
        yield* axe(page, "activity")

        // An answer to "Show older" does not bring back what was shown before a search.
        yield* step(() => page.getByLabel("Search").fill(""))
        const older = page.getByRole("button", { name: "Show older", exact: true })
        let release = () => {}
        const released = new Promise<void>((resolve) => {
          release = resolve
        })
        yield* step(() =>
          page.route("**/api/auth/access/events*", async (route) => {
            const { searchParams } = new URL(route.request().url())
            if (searchParams.has("before")) await released
            const response = await route.fetch()
            const json = await response.json()
            // Every page has a next one, so that the button stays.
            await route.fulfill({ response, json: { ...json, next: json.next ?? 1 } })
          })
        )
        yield* text(page, /owner withdrew the link “Link 129”\./)
        yield* step(() => older.click())
        yield* step(() => page.getByLabel("Search").fill("link 77"))
        yield* text(page, /^2 or more found$/m)
        release()
        yield* step(() => page.locator("#activity .sp-more button[data-state=idle]").waitFor())
        assert.lengthOf(yield* sentences, 2)
        yield* step(() => page.unroute("**/api/auth/access/events*"))
        yield* step(() => page.getByLabel("Search").fill("no such thing"))
        yield* text(page, /Nothing matches “no such thing”\./)
        assert.deepStrictEqual(yield* sentences, [])
        yield* step(() => page.getByRole("button", { name: "Clear the search" }).click())
        yield* text(page, /owner withdrew the link “Link 129”\./)
        assert.strictEqual(yield* step(() => page.getByLabel("Search").inputValue()), "")
        yield* step(() => page.getByRole("combobox").selectOption("session"))
        yield* text(page, /Chromium is in, let in by owner\./)
        yield* step(() =>
          page.waitForFunction(
            () => !document.querySelector("#activity")?.textContent?.includes("“Link 129”"),
            undefined,
            {
              polling: 50
            }
          )
        )
        assert.deepStrictEqual((yield* sentences).filter((sentence) => sentence.includes("the link")), [])
        // A change made elsewhere is on top at once, and what was read before it stays.
        const isOnTop = Effect.fnUntraced(function*(label: string) {
          yield* owner.access.issueLink({ label })
          yield* step(() =>
            page.waitForFunction(
              (label) => document.querySelector("#activity ol li")?.textContent?.includes(label),
              label,
              { polling: 50 }
            )
          )
        })
        yield* step(() => page.getByRole("combobox").selectOption("pairingLink"))
        yield* text(page, /owner withdrew the link “Link 129”\./)
        yield* step(() => older.click())
        yield* text(page, /owner made the link “Link 2”, for one device\./)
        const before = yield* sentences
        yield* isOnTop("Just now")
        assert.deepStrictEqual(yield* sentences, ["owner made the link “Just now”, for one device.", ...before])
        yield* step(() => page.getByRole("combobox").selectOption(""))
        yield* isOnTop("Once more")
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
