/** What tests of the pages do in a browser. */
import * as Effect from "effect/Effect"
import type { BrowserContext, Page } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"

const { step } = Browser

/** Opens a page, and records its errors. */
export const open = Effect.fnUntraced(function*(context: BrowserContext) {
  const page = yield* step(() => context.newPage())
  const problems: Array<string> = []
  page.on("pageerror", (error) => problems.push(String(error)))
  page.on("console", (message) => {
    if (message.text().includes("Content Security Policy")) problems.push(message.text())
  })
  return { page, problems }
})

/** Waits until the page shows a text. */
export const text = (page: Page, wanted: RegExp) =>
  step(async () => {
    try {
      await page.waitForFunction(
        ([source, flags]) => new RegExp(source, flags).test(document.body.innerText),
        [wanted.source, wanted.flags] as const,
        { polling: 50 }
      )
    } catch (cause) {
      throw new Error(`${wanted} is not shown, but:\n${await page.innerText("body")}`, { cause })
    }
  })

/** Clicks a button or a link by its words, once it can be clicked: one that consents cannot be at first. */
export const click = (page: Page, words: string) =>
  step(() =>
    page.locator("main :is(a, button:not([aria-disabled=true])), dialog button:not([aria-disabled=true])", {
      hasText: words
    }).first().click()
  )

export const signedIn = /^Signed in as owner/m

/** Opens a pairing address, and pairs when the page asks. */
export const pair = Effect.fnUntraced(function*(page: Page, pairingUrl: string) {
  yield* step(() => page.goto(pairingUrl))
  yield* click(page, "Pair this browser")
  yield* text(page, signedIn)
})
