/** The pages of the reference backend in Chromium, as an owner goes through them, with the terminal beside them. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Page } from "playwright-core"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Browser from "../../../test-support/browser.ts"
import { axe } from "../../react/test/support.ts"
import * as Network from "../../../test-support/network.ts"
import * as Programs from "../../../test-support/programs.ts"
import { click, open, pair, signedIn, text } from "./pages.ts"

const { step } = Browser

/** Runs a command of the operator beside the server. */
const terminal = Effect.fnUntraced(function*(state: string, ...args: ReadonlyArray<string>) {
  const running = yield* Sallyport.sallyport([...args, "--state-dir", state])
  const { code } = yield* running.exit
  assert.strictEqual(code, 0, running.stderr())
  return running.stdout()
})

/** Makes a link at the terminal. */
const link = (state: string, label: string) =>
  Effect.map(
    terminal(state, "pair", "--json", "--label", label),
    (line): { readonly code: string; readonly link: { readonly id: string } } => JSON.parse(line)
  )

/** Presses Tab until the control with these words has the focus. */
const tabTo = (page: Page, words: string) =>
  step(async () => {
    for (let presses = 0; presses < 60; presses++) {
      await page.keyboard.press("Tab")
      const focused = await page.evaluate(() => {
        const element = document.activeElement
        return element?.getAttribute("aria-label") ?? element?.textContent ?? ""
      })
      if (focused.includes(words)) return
    }
    throw new Error(`Tab does not reach “${words}”`)
  })

describe("the pages of a backend", () => {
  it.live(
    "WEB-05 BOOT-14: pair by the keyboard alone, and lead back to the page that was asked for, readable in both schemes and at both widths",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const server = yield* Sallyport.serve(state, "--name", "workbench", "--accent", "#7a1f5c")
        const chromium = yield* Browser.browser
        const context = yield* Browser.profile(chromium)
        const { page, problems } = yield* open(context)
        yield* step(() => page.goto(`${server.url}/connections`))
        yield* text(page, /^This browser is not paired$/m)
        yield* axe(page, "unpaired")
        yield* tabTo(page, "Enter a code")
        yield* step(() => page.keyboard.press("Enter"))
        yield* step(() => page.getByLabel("Pairing code").waitFor())
        yield* axe(page, "code")
        yield* step(() => page.getByLabel("Pairing code").focus())
        yield* step(() => page.keyboard.type(server.code.toLowerCase()))
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /^Pair this browser with workbench\?$/m)
        yield* axe(page, "question")
        yield* step(() => page.waitForSelector("button[data-kind=primary][aria-disabled=false]"))
        yield* tabTo(page, "Pair this browser")
        yield* step(() => page.keyboard.press("Enter"))
        yield* step(() => page.waitForURL(`${server.url}/connections`))
        yield* text(page, /^Live$/m)
        yield* step(() =>
          page.locator("#activity").getByText("A change is kept for 90 days.", { exact: true }).waitFor()
        )
        yield* axe(page, "connections")
        assert.strictEqual(yield* step(() => page.title()), "Connections · workbench")
        assert.include(
          ["#7a1f5c", "rgb(122, 31, 92)"],
          yield* step(async () => {
            await page.emulateMedia({ colorScheme: "light" })
            return page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue("--accent").trim())
          })
        )

        // Neither the address of another site nor one without a host leads away from here.
        for (const address of ["https://evil.example/", "//evil.example/", "/\\evil.example/", "javascript:alert(1)"]) {
          yield* step(() => page.goto(`${server.url}/pair?${new URLSearchParams({ continue: address })}`))
          yield* step(() => page.getByLabel("Pairing code").waitFor())
          const { code } = yield* link(state, "again")
          yield* step(() => page.getByLabel("Pairing code").fill(code))
          yield* step(() => page.keyboard.press("Enter"))
          yield* text(page, /^This browser is paired already$/m)
          yield* click(page, "Continue")
          yield* step(() => page.waitForURL(`${server.url}/`))
        }
        yield* text(page, signedIn)
        yield* axe(page, "start")
        yield* step(() => page.goBack())
        yield* step(() => page.goForward())
        yield* text(page, signedIn)
        assert.deepStrictEqual(problems, [])
      }),
    Programs.timeout
  )

  it.live(
    "WEB-05 FEED-02 SESS-08 SESS-21 L-37: show what the terminal changes, in every tab, over a restart of the server, until this browser is revoked there",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const first = yield* Sallyport.serve(state)
        const network = yield* Network.network(first)
        const chromium = yield* Browser.browser
        const context = yield* Browser.profile(chromium)
        const { page, problems } = yield* open(context)
        yield* pair(page, first.pairingUrl.replace(first.url, network.url))
        yield* step(() => page.goto(`${network.url}/connections`))
        const second = yield* open(context)
        yield* step(() => second.page.goto(`${network.url}/connections`))
        const tabs = [page, second.page]
        for (const tab of tabs) yield* text(tab, /^Live$/m)

        const made = yield* link(state, "Grandma’s tablet")
        for (const tab of tabs) yield* text(tab, /Grandma’s tablet/)
        yield* terminal(state, "links", "revoke", made.link.id)
        for (const tab of tabs) {
          yield* step(() => tab.locator("#links", { hasText: "Grandma’s tablet" }).waitFor({ state: "detached" }))
        }

        // Several clicks on one button are one request, and the other tab shows what it did.
        const withdrawn = yield* link(state, "To be withdrawn")
        yield* text(page, /To be withdrawn/)
        const posts: Array<string> = []
        page.on("request", (request) => {
          if (request.method() === "POST") posts.push(new URL(request.url()).pathname)
        })
        yield* step(() =>
          page.evaluate(() => {
            const button = document.querySelector<HTMLButtonElement>("#links li button")
            for (let click = 0; click < 4; click++) button?.click()
          })
        )
        yield* step(() => second.page.locator("#links", { hasText: "To be withdrawn" }).waitFor({ state: "detached" }))
        assert.deepStrictEqual(posts, ["/api/auth/pairing-links/revoke"])
        assert.strictEqual((yield* Sallyport.exchange(first, withdrawn.code)).status, 400)

        // The server goes away under the pages and comes back.
        yield* first.stop("SIGTERM")
        network.cut()
        yield* text(page, /The connection is lost\./)
        const server = yield* Sallyport.serve(state)
        network.join(server)
        yield* link(state, "After the restart")
        for (const tab of tabs) yield* text(tab, /After the restart/)

        const sessions = Effect.map(
          terminal(state, "sessions", "list", "--json"),
          (line): { readonly sessions: ReadonlyArray<{ readonly id: string }> } => JSON.parse(line)
        )
        const [own, ...others] = (yield* sessions).sessions
        assert.lengthOf(others, 0)
        const phone = yield* open(yield* Browser.profile(chromium))
        const { code } = yield* link(state, "another device")
        yield* step(() => phone.page.goto(`${network.url}/pair#token=${code}`))
        yield* step(() => phone.page.getByLabel("Name of this device").fill("Ada’s phone"))
        yield* click(phone.page, "Pair this browser")
        yield* text(phone.page, signedIn)
        yield* step(() => phone.page.goto(`${network.url}/connections`))

        yield* text(page, /^Ada’s phone\s+New since your last visit$/m)
        assert.notMatch(yield* step(() => phone.page.innerText("body")), /New since/)

        // Another device revokes this browser: both tabs drop what they showed and say who did it, when and from where.
        yield* step(() =>
          phone.page.locator("#devices li", { hasText: "Revoke" }).getByRole("button", { name: "Revoke" }).click()
        )
        yield* step(() => phone.page.locator("dialog button[data-kind=danger]").click())
        const byPhone = /^owner revoked it at .+, from Ada’s phone\. Pair it again to go on\.$/m
        for (const tab of tabs) {
          yield* text(tab, /^This device was revoked$/m)
          yield* text(tab, byPhone)
          assert.notInclude(yield* step(() => tab.innerText("body")), "After the restart")
          assert.strictEqual(yield* step(() => tab.evaluate(() => document.activeElement?.tagName)), "H1")
        }
        yield* axe(page, "revoked")
        // So does the page after a reload, another page of the server, and the way back to this one.
        yield* step(() => page.reload())
        yield* text(page, byPhone)
        yield* step(() => page.goto(network.url))
        yield* text(page, byPhone)
        yield* step(() => page.goBack())
        yield* text(page, byPhone)
        assert.isUndefined((yield* sessions).sessions.find(({ id }) => id === own?.id))

        // A page that was left before and is come back to shows nothing of before either.
        yield* step(() => phone.page.goto(`${network.url}/pair`))
        for (const { id } of (yield* sessions).sessions) yield* terminal(state, "sessions", "revoke", id)
        yield* step(() => phone.page.goBack())
        yield* text(phone.page, /^The operator revoked it at .+, in the server’s terminal\. Pair it again to go on\.$/m)
        assert.notInclude(yield* step(() => phone.page.innerText("body")), "After the restart")
        yield* click(phone.page, "Enter a code")
        yield* step(() => phone.page.getByLabel("Pairing code").waitFor())
        assert.deepStrictEqual([...problems, ...second.problems, ...phone.problems], [])
      }),
    Programs.timeout
  )

  it.live(
    "WEB-05 SESS-21: a page that is come back to is loaded again, and shows nothing of before: no browser may keep it",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const server = yield* Sallyport.serve(state)
        // Playwright turns the cache of pages off by itself.
        const chromium = yield* Browser.browserWith({ ignoreDefaultArgs: ["--disable-back-forward-cache"] })
        const own = Effect.map(
          terminal(state, "sessions", "list", "--json"),
          (line): { readonly sessions: ReadonlyArray<{ readonly id: string }> } => JSON.parse(line)
        )
        const { page, problems } = yield* open(yield* Browser.profile(chromium))
        yield* step(() =>
          page.addInitScript(() => {
            addEventListener("pageshow", ({ persisted, type }) => {
              sessionStorage.setItem("told", `${sessionStorage.getItem("told") ?? ""}${type} ${persisted},`)
            })
            new MutationObserver(() => {
              if (document.body?.innerText.includes("Grandma’s tablet")) sessionStorage.setItem("seen", "yes")
            }).observe(document, { subtree: true, childList: true, characterData: true })
          })
        )
        const kept = (name: string) => step(() => page.evaluate((name) => sessionStorage.getItem(name), name))
        const forget = step(() => page.evaluate(() => sessionStorage.clear()))
        yield* pair(page, server.pairingUrl)
        yield* link(state, "Grandma’s tablet")
        yield* step(() => page.goto(`${server.url}/connections`))
        yield* text(page, /Grandma’s tablet/)
        assert.strictEqual(yield* kept("seen"), "yes")

        // Chromium says itself why it keeps no such page: neither the page nor what it asked for may be stored.
        yield* step(() => page.evaluate(() => void (location.href = "/device")))
        yield* text(page, /^Let a device in$/m)
        yield* forget
        for (const { id } of (yield* own).sessions) yield* terminal(state, "sessions", "revoke", id.slice(0, 13))
        yield* step(() => page.evaluate(() => void setTimeout(() => history.back())))
        yield* step(() => page.waitForURL(`${server.url}/connections`))
        yield* text(page, /^The operator revoked it at .+, in the server’s terminal\. Pair it again to go on\.$/m)
        const { reasons, type } = yield* step(() =>
          page.evaluate(() => {
            const [entry] = performance.getEntriesByType("navigation")
            const { notRestoredReasons, type }: {
              readonly notRestoredReasons: { readonly reasons: ReadonlyArray<{ readonly reason: string }> }
              readonly type: string
            } = JSON.parse(JSON.stringify(entry))
            return { type, reasons: notRestoredReasons.reasons.map(({ reason }) => reason) }
          })
        )
        assert.strictEqual(type, "back_forward")
        for (const no of ["", "-with-js-network-request"]) {
          assert.include(reasons, `response-cache-control-no-store${no}`)
        }
        assert.strictEqual(yield* kept("told"), "pageshow false,")
        assert.isNull(yield* kept("seen"))
        assert.deepStrictEqual(problems, [])
      }),
    Programs.timeout
  )
})
