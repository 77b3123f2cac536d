/** Starts the example's server as a process, and a page that is paired with it. */
import { TestNetwork } from "@sallyport/testing/host"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { fileURLToPath } from "node:url"
import type { Browser, Page } from "playwright-core"
import { browser, profile, step } from "../../../test-support/browser.ts"
import { program } from "../../../test-support/programs.ts"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

export const serve = Effect.fnUntraced(function*(directory: string, more: Record<string, string> = {}) {
  const running = yield* program(main, [], {
    AGENT_STATE: directory,
    PORT: "0",
    AGENT_CHANGE_TAKES: "200 millis",
    ...more
  })
  const line = yield* Effect.orDie(running.printed(/http:\S+#token=\S+/))
  return { ...running, pairingUrl: line, url: new URL(line).origin }
})

/** Starts a server behind a network, and a page that is paired with it. */
export const scene = Effect.fnUntraced(function*(directory: string, more?: Record<string, string>): Effect.fn.Return<
  {
    readonly server: Effect.Success<ReturnType<typeof serve>>
    readonly wire: TestNetwork.Wire
    readonly page: Page
    readonly open: Effect.Effect<Page>
    readonly chromium: Browser
  },
  never,
  Scope.Scope
> {
  const server = yield* serve(directory, more)
  const wire = yield* TestNetwork.between(server.url)
  const chromium = yield* browser
  const context = yield* profile(chromium)
  const page = yield* step(() => context.newPage())
  yield* step(() => page.goto(server.pairingUrl.replace(server.url, wire.url)))
  yield* step(() => page.click("button[data-kind=primary][aria-disabled=false]"))
  yield* step(() => page.waitForSelector("#start:visible"))
  const open = step(async () => {
    const page = await context.newPage()
    await page.goto(wire.url)
    return page
  })
  return { server, wire, page, open, chromium }
})

const changes = 12
// A sentence, the changes, the question, the answer, and a sentence.
export const events = changes + 4

export const seen = (page: Page, seq: number) => step(() => page.waitForSelector(`li[data-seq="${seq}"]`))

export const isLost = (page: Page) =>
  step(() =>
    page.waitForFunction(() => document.getElementById("connection")?.textContent?.startsWith("Connection lost"))
  )

export const log = (page: Page) =>
  step(() =>
    page.$$eval(
      "li",
      (items) =>
        items.map((item) => ({
          seq: Number(item.dataset.seq),
          text: item.textContent,
          reused: item.className === "reused"
        }))
    )
  )

export const ended = (page: Page) =>
  step(async () => {
    const end = await page.waitForFunction(() => document.body.dataset.end)
    return end.jsonValue()
  })

export const numbers = (last: number) => Array.from({ length: last }, (_, index) => index + 1)
