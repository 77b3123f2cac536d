import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Page } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import { start } from "./support.ts"

const { step } = Browser

const text = (page: Page, selector: string, wanted: RegExp) =>
  step(() =>
    page.waitForFunction(
      ([selector, source]) => new RegExp(source).test(document.querySelector(selector)?.textContent ?? ""),
      [selector, wanted.source] as const,
      { polling: 50 }
    )
  )

describe("the pairing page", () => {
  it.live(
    "BOOT-14 C-40 C-03: says whom this browser is signed in as now and whom pairing makes it, in text that changes nothing around it",
    () =>
      Effect.gen(function*() {
        const server = yield* start()
        const url = `http://127.0.0.1:${server.port}`
        const issue = (label: string) =>
          Effect.orDie(server.links.issue({ issuedBy: "operator", subject: "<b>bob</b>", scopes: [], label }))
        const { code } = yield* issue("<img src=x onerror=alert(1)>")
        const [name = "", value = ""] = (yield* server.cookie).split("=")
        const chromium = yield* Browser.browser
        const context = yield* Browser.profile(chromium)
        yield* step(() => context.addCookies([{ name, value, url, httpOnly: true, sameSite: "Lax" }]))
        const page = yield* step(() => context.newPage())
        const subject = step(async (): Promise<unknown> => {
          const answer = await page.request.get(`${url}/api/auth/session`)
          return Object((await answer.json()).session).subject
        })

        yield* step(() => page.goto(`${url}/pair#token=${Redacted.value(code)}`))
        yield* text(
          page,
          "#change",
          /^This browser is signed in as owner\. Pairing signs it in as <b>bob<\/b> instead\.$/
        )
        assert.strictEqual(yield* step(() => page.innerText("#label")), "<img src=x onerror=alert(1)>")
        assert.strictEqual(yield* step(() => page.innerText("#scopes")), "nothing but its own session")
        assert.strictEqual(yield* step(() => page.locator("#ask img, #ask b").count()), 0)
        assert.strictEqual(yield* subject, "owner")
        yield* step(() => page.click("#cancel"))
        assert.strictEqual(yield* subject, "owner")

        yield* step(() => page.goto(`${url}/pair#token=${Redacted.value(code)}`))
        yield* step(() => page.click("#confirm"))
        yield* step(() => page.waitForURL(`${url}/`))
        assert.strictEqual(yield* subject, "<b>bob</b>")
      }),
    180_000
  )
})
