/** The owner's page in Chromium, by the keyboard alone. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { Page } from "playwright-core"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Browser from "../../../test-support/browser.ts"
import * as Programs from "../../../test-support/programs.ts"
import { open, pair, text } from "./pages.ts"

const { step } = Browser

const nameOf = (page: Page) =>
  page.evaluate(() => {
    const element = document.activeElement
    const label = element instanceof HTMLInputElement ? element.labels?.[0] : element
    return element?.getAttribute("aria-label") ?? label?.textContent ?? ""
  })

/** Returns what the control with the focus is called. */
const focused = (page: Page) => step(() => nameOf(page))

/** Presses keys, the first once the control with the focus takes it. */
const press = (page: Page, ...keys: ReadonlyArray<string>) =>
  step(async () => {
    await page.waitForFunction(() => document.activeElement?.getAttribute("aria-disabled") !== "true")
    for (const key of keys) await page.keyboard.press(key)
  })

/** Presses Tab until the control with this name has the focus. */
const tabTo = (page: Page, name: string) =>
  step(async () => {
    for (let presses = 0; presses < 90; presses++) {
      // One after the other: a busy browser answers the question before it has moved the focus.
      await page.keyboard.press("Tab")
      if ((await nameOf(page)).startsWith(name)) return
    }
    throw new Error(`Tab does not reach “${name}”`)
  })

const asks = (page: Page, title: string) =>
  step(() => page.locator("dialog[open] h2", { hasText: title }).waitFor()).pipe(
    Effect.andThen(focused(page))
  )

const closed = (page: Page) => step(() => page.locator("dialog").waitFor({ state: "detached" }))

describe("the owner's page by the keyboard alone", () => {
  it.live(
    "WEB-05 CONN-01 CONN-14 FEED-02 L-35 L-36 L-37: lets a device in, withdraws, revokes, approves, changes the mode, searches and signs out, each once",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const server = yield* Sallyport.serve(state)
        const token = yield* Sallyport.pair(server)
        const link = (options: object) =>
          Effect.map(
            Sallyport.post(server, "/api/auth/pairing-links", token, options),
            (answer) => answer.json<{ readonly code: string }>().code
          )
        const chromium = yield* Browser.browser
        const { page, problems } = yield* open(
          yield* Browser.profile(chromium, { viewport: { width: 1024, height: 700 } })
        )
        yield* pair(page, `${server.url}/pair#token=${yield* link({})}`)
        yield* step(() => page.goto(`${server.url}/connections`))
        yield* text(page, /^Live$/m)
        const changes: Array<string> = []
        page.on("request", (request) => {
          if (request.method() !== "GET") changes.push(new URL(request.url()).pathname)
        })
        /** Checks that exactly these changes were asked for since the last time. */
        const changed = (...paths: ReadonlyArray<string>) => assert.deepStrictEqual(changes.splice(0), [...paths])

        // Let another device in: what is chosen has the focus. A key that is held down makes one link, and does not close it.
        yield* tabTo(page, "Let another device in")
        yield* press(page, "Enter")
        assert.strictEqual(yield* asks(page, "Let another device in"), "Watch and run")
        yield* press(page, "ArrowLeft")
        yield* text(page, /^It may watch runs\.$/m)
        yield* tabTo(page, "Name (optional)")
        yield* step(() => page.keyboard.type("Kitchen tablet"))
        yield* tabTo(page, "Make the link")
        yield* step(() => page.keyboard.down("Enter"))
        const code = yield* step(() => page.locator("dialog .sp-copy code").first().innerText())
        assert.strictEqual(yield* focused(page), "Done. The link stays open")
        yield* step(() => page.waitForFunction(() => document.activeElement?.getAttribute("aria-disabled") === "false"))
        yield* step(() => page.keyboard.down("Enter"))
        yield* step(() => page.keyboard.up("Enter"))
        changed("/api/auth/pairing-links")
        yield* Sallyport.exchange(server, code)
        yield* text(page, /is in\n/)
        assert.strictEqual(yield* focused(page), "Done")
        yield* press(page, "Enter")
        yield* closed(page)
        assert.strictEqual(yield* focused(page), "Let another device in")

        // Withdraw one of two links, then the other one: the focus stays in the section.
        for (const label of ["Hallway", "Attic"]) yield* link({ label })
        for (const label of ["Hallway", "Attic"]) {
          yield* text(page, new RegExp(`^${label}$`, "m"))
          yield* tabTo(page, `Withdraw the link “${label}”`)
          yield* press(page, "Space", "Space")
          yield* step(() => page.locator("#links li", { hasText: label }).waitFor({ state: "detached" }))
          assert.strictEqual(yield* focused(page), "Open links")
          changed("/api/auth/pairing-links/revoke")
        }

        // Revoke: Escape keeps the device and gives the focus back.
        yield* tabTo(page, "Revoke Kitchen tablet")
        yield* press(page, "Enter")
        assert.strictEqual(yield* asks(page, "Revoke Kitchen tablet?"), "Keep it")
        yield* press(page, "Escape")
        yield* closed(page)
        assert.strictEqual(yield* focused(page), "Revoke Kitchen tablet")
        changed()
        yield* press(page, "Enter")
        yield* asks(page, "Revoke Kitchen tablet?")
        yield* press(page, "Tab", "Space", "Space")
        yield* text(page, /^Kitchen tablet was revoked\./m)
        assert.strictEqual(yield* focused(page), "Devices")
        changed("/api/auth/sessions/revoke")

        // A device asks on a server that only this machine reaches. Its section goes with it, and the focus to the page.
        yield* Sallyport.request(`${server.url}/oauth/device_authorization`, {
          method: "POST",
          headers: { "content-type": "application/x-www-form-urlencoded", "user-agent": "build-agent/1" },
          body: new URLSearchParams({ client_id: "build-agent", scope: "runs:read runs:operate" }).toString()
        })
        yield* text(page, /^Waiting for you$/m)
        yield* tabTo(page, "It may watch, start and stop runs.")
        yield* press(page, "Enter", "Tab", "Tab", "Space")
        yield* text(page, /^It may watch runs\. Change$/m)
        yield* tabTo(page, "Approve")
        yield* press(page, "Enter", "Enter")
        yield* text(page, /^1 device is approved$/m)
        changed("/api/auth/connect-clients/approve")
        yield* step(() => page.locator("#waiting").waitFor({ state: "detached" }))
        assert.strictEqual(yield* focused(page), "Connections")

        // The mode: an arrow asks, Escape leaves it as it is, and the way back asks no one.
        const [approval, account] = ["Only devices that I approve", "Every device of my account"]
        const checked = step(() => page.locator("#who input:checked + span b").innerText())
        yield* tabTo(page, approval)
        yield* press(page, "ArrowDown")
        assert.strictEqual(yield* asks(page, "Every device of the account?"), "Keep asking me")
        yield* press(page, "Escape")
        yield* closed(page)
        assert.isTrue((yield* focused(page)).startsWith(approval))
        assert.strictEqual(yield* checked, approval)
        changed()
        yield* press(page, "ArrowDown")
        yield* asks(page, "Every device of the account?")
        yield* press(page, "Tab", "Enter", "Enter")
        yield* closed(page)
        yield* step(() => page.locator("#who input:checked + span", { hasText: account }).waitFor())
        changed("/api/auth/connect-security-mode")
        yield* step(() => page.waitForFunction(() => document.activeElement?.matches("#who input:checked")))
        yield* press(page, "ArrowUp")
        yield* step(() => page.locator("#who input:checked + span", { hasText: approval }).waitFor())
        changed("/api/auth/connect-security-mode")

        // A mode that the server does not know cannot be chosen over: Tab leads to asking again, which changes nothing.
        const tamper = (mode: string) =>
          Effect.sync(() => {
            const database = new DatabaseSync(NPath.join(state, "sallyport.db"), { timeout: 10_000 })
            database.exec(
              `PRAGMA ignore_check_constraints = ON; UPDATE sallyport_connect_settings SET mode = '${mode}'`
            )
            database.close()
          })
        yield* tamper("trust-everyone")
        yield* step(() => page.reload())
        yield* text(page, /^The server did not say which of these holds\.$/m)
        yield* tabTo(page, "Ask again")
        yield* press(page, "Enter")
        yield* step(() => page.locator("#who [role=alert] .sp-note").waitFor())
        yield* tamper("client-approval")
        yield* press(page, "Enter")
        yield* step(() => page.locator("#who input:checked + span", { hasText: approval }).waitFor())
        changed()

        // The trail: the key of the search, a kind by an arrow, and the button that clears both.
        yield* press(page, "/")
        assert.strictEqual(yield* focused(page), "Search")
        yield* step(() => page.keyboard.type("Kitchen"))
        yield* text(page, /^\d found$/m)
        yield* press(page, "Tab", "ArrowDown", "ArrowDown", "ArrowDown")
        yield* text(page, /^Nothing matches “Kitchen”\.$/m)
        yield* tabTo(page, "Clear the search")
        yield* press(page, "Enter")
        yield* text(page, /chose: every device of the account\./)
        assert.strictEqual(yield* step(() => page.getByLabel("Search").inputValue()), "")

        yield* tabTo(page, "Sign out")
        // The second press comes after the answer, when the page does not know yet that it is signed out.
        let pressed = () => {}
        const second = new Promise<void>((resolve) => {
          pressed = resolve
        })
        yield* step(() =>
          page.route("**/api/auth/session", async (route) => {
            await second
            await route.continue()
          })
        )
        yield* step(async () => {
          const answer = page.waitForResponse("**/api/auth/logout")
          await page.keyboard.press("Enter")
          await (await answer).finished()
          await page.keyboard.press("Enter")
          pressed()
        })
        yield* text(page, /^This device was signed out$/m)
        assert.strictEqual(yield* focused(page), "This device was signed out")
        changed("/api/auth/logout")
        yield* tabTo(page, "Enter a code")
        yield* press(page, "Enter")
        yield* step(() => page.getByLabel("Pairing code").waitFor())
        assert.deepStrictEqual(problems, [])
      }),
    Programs.timeout
  )
})
