/**
 * Takes the pictures of `docs/pictures/` from a running backend: the pages, light and dark, on a desk and on a phone, and
 * the terminal that starts them.
 */
import * as Effect from "effect/Effect"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import type { BrowserContext, Page } from "playwright-core"
import { freshState, pair, post, sallyport, serve } from "../test-support/backend.ts"
import * as Browser from "../test-support/browser.ts"
import { setup as pages } from "./pages.ts"

const { step } = Browser
const directory = join(import.meta.dirname, "../docs/pictures")

const desk = { width: 1120, height: 780 }
const phone = { width: 390, height: 780 }

const picture = (page: Page, name: string, colorScheme: "light" | "dark" = "light") =>
  step(async () => {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" })
    await page.screenshot({ path: join(directory, `${name}.png`) })
  })

const open = Effect.fnUntraced(function*(context: BrowserContext, address: string) {
  const page = yield* step(() => context.newPage())
  yield* step(() => page.goto(address))
  return page
})

/** Draws lines as a terminal shows them: each sign in a cell of its own, since this browser has no font of one width. */
const terminal = Effect.fnUntraced(function*(context: BrowserContext, lines: string) {
  const page = yield* open(context, "about:blank")
  yield* step(() =>
    page.evaluate((lines) => {
      const box = document.body.appendChild(document.createElement("div"))
      box.style.cssText =
        "padding: 24px; width: max-content; background: #18191d; color: #ecedef; font: 14px/22px sans-serif"
      for (const line of lines.trimEnd().split("\n")) {
        const row = box.appendChild(document.createElement("div"))
        row.style.cssText = `display: flex; height: 22px; ${line.startsWith("$") ? "color: #9ab8ff" : ""}`
        for (const sign of line) {
          const cell = row.appendChild(document.createElement("span"))
          cell.textContent = sign
          cell.style.cssText = "width: 9px; text-align: center; white-space: pre"
        }
      }
      document.body.style.margin = "0"
    }, lines)
  )
  yield* step(() => page.locator("body > div").screenshot({ path: join(directory, "terminal.png") }))
})

const program = Effect.gen(function*() {
  yield* Effect.promise(pages)
  mkdirSync(directory, { recursive: true })
  const state = yield* freshState
  const server = yield* serve(state, "--name", "workbench")
  const token = yield* pair(server)
  const issue = (options: object) =>
    Effect.map(
      post(server, "/api/auth/pairing-links", token, options),
      (answer) => answer.json<{ code: string }>().code
    )
  const command = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
    const running = yield* sallyport([...args, "--state-dir", state])
    yield* running.exit
    return `$ sallyport ${args.join(" ")}\n${running.stdout()}`
  })

  const chromium = yield* Browser.browser
  const context = yield* Browser.profile(chromium, { viewport: desk })
  const page = yield* open(context, `${server.url}/pair#token=${yield* issue({})}`)
  const consent = page.locator("button[data-kind=primary][aria-disabled=false]")
  yield* step(() => consent.waitFor())
  yield* picture(page, "pair")
  yield* step(() => consent.click())
  yield* step(() => page.getByRole("button", { name: "Count to 30" }).click())
  yield* step(() => page.locator(".sp-steps i[data-state=live]").nth(3).waitFor())
  // Away for a while: what was missed is caught up with.
  const start = page.url()
  yield* step(() => page.goto("about:blank"))
  yield* Effect.sleep("3 seconds")
  yield* step(() => page.goto(start))
  yield* step(() => page.locator(".sp-steps i[data-state=live]").nth(4).waitFor())
  yield* picture(page, "start", "dark")
  yield* picture(page, "start-light")

  const mobile = yield* Browser.profile(chromium, {
    viewport: phone,
    userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1"
  })
  const onPhone = yield* open(
    mobile,
    `${server.url}/pair#token=${yield* issue({ scopes: ["runs:read", "runs:operate", "access:read"] })}`
  )
  yield* step(() => onPhone.locator("button[data-kind=primary][aria-disabled=false]").waitFor())
  yield* picture(onPhone, "phone-pair", "dark")
  yield* step(() => onPhone.locator("button[data-kind=primary][aria-disabled=false]").click())
  yield* step(() => onPhone.locator(".sp-steps i[data-state=live]").first().waitFor())
  yield* picture(onPhone, "phone-start", "dark")
  yield* issue({ label: "Grandma’s tablet", scopes: ["runs:read"] })

  yield* step(() => page.goto(`${server.url}/connections`))
  yield* step(() => page.locator("#links li").first().waitFor())
  yield* picture(page, "connections")
  yield* step(() => page.getByRole("button", { name: "Let another device in" }).click())
  yield* step(() => page.getByLabel("Name (optional)").fill("Kitchen tablet"))
  yield* step(() => page.getByRole("button", { name: "Make the link" }).click())
  yield* step(() => page.locator("dialog code").first().waitFor())
  yield* picture(page, "let-in")
  yield* step(() => onPhone.goto(`${server.url}/connections`))
  yield* step(() => onPhone.locator("#devices li").first().waitFor())
  yield* picture(onPhone, "phone-connections", "dark")
  yield* terminal(context, [yield* command("sessions", "list"), yield* command("links", "list")].join("\n"))
})

await Effect.runPromise(Effect.scoped(program))
