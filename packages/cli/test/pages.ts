/** What tests of the pages do in a browser. */
import * as Effect from "effect/Effect"
import * as Http from "node:http"
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

/** Serves pages on another port of this machine, each with what a neighbour may set. */
export const neighbour = (
  answers: (path: string) => { readonly body: string; readonly headers?: Http.OutgoingHttpHeaders }
) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const server = Http.createServer((request, response) => {
        const { body, headers } = answers(request.url ?? "/")
        response.writeHead(200, { "content-type": "text/html", ...headers }).end(body)
      }).listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed({
          url: `http://127.0.0.1:${port}`,
          close: () => {
            server.closeAllConnections()
            server.close()
          }
        }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )
