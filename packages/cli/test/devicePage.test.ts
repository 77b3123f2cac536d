import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Page } from "playwright-core"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Browser from "../../../test-support/browser.ts"
import * as Programs from "../../../test-support/programs.ts"
import { neighbour, pair, text } from "./pages.ts"

const { step } = Browser

/** Sends a form of the device grant, as a terminal does that is not signed in. */
const form = (server: { readonly url: string }, path: string, parameters: Record<string, string>) =>
  Sallyport.request(server.url + path, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded", "user-agent": "build-agent/1" },
    body: new URLSearchParams({ client_id: "build-agent", ...parameters }).toString()
  })

/** Presses Tab until what has the focus is called that; more may be said below its name. */
const tabTo = (page: Page, name: string) =>
  step(async () => {
    for (let presses = 0; presses < 40; presses++) {
      const found = await page.evaluate((name) => {
        const focused = document.activeElement
        const label = focused instanceof HTMLInputElement ? focused.labels?.[0]?.querySelector("span") : focused
        return (label?.firstChild ?? label)?.textContent === name
      }, name)
      if (found) return
      await page.keyboard.press("Tab")
    }
    throw new Error(`Tab does not reach “${name}”`)
  })

describe("the page for devices in Chromium", () => {
  it.live(
    "CONN-14 AGENT-03 HTTP-02: a keyboard approves a device, with less than it asks for; a page that frames it or is of another site does not (T22)",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serve(yield* Sallyport.freshState)
        const token = yield* Sallyport.pair(server)
        const chromium = yield* Browser.browser
        const page = yield* Effect.flatMap(Browser.profile(chromium), (context) => step(() => context.newPage()))
        const link = yield* Sallyport.post(server, "/api/auth/pairing-links", token, {})
        yield* pair(page, `${server.url}/pair#token=${link.json<{ readonly code: string }>().code}`)

        const asked = (yield* form(server, "/oauth/device_authorization", { scope: "runs:read runs:operate" })).json<{
          readonly device_code: string
          readonly user_code: string
          readonly verification_uri_complete: string
        }>()
        const poll = Effect.map(
          form(server, "/oauth/token", {
            grant_type: "urn:ietf:params:oauth:grant-type:device_code",
            device_code: asked.device_code
          }),
          (answer) => answer.json<{ readonly scope?: string; readonly error?: string }>()
        )

        // Both pages know the code and the client, and the one of this machine's name sends its requests with the cookie.
        const { client } = (yield* Sallyport.post(server, "/api/auth/connect-clients/find", token, {
          code: asked.user_code
        })).json<{ readonly client: { readonly proofKeyThumbprint: string } }>()
        const decision = JSON.stringify({ client: client.proofKeyThumbprint, code: asked.user_code })
        const approve = `${server.url}/api/auth/connect-clients/approve`
        const [start, end] = decision.split(/(?=,"code")/)
        const pages: Readonly<Record<string, string>> = {
          "/frame": `<!doctype html><iframe src="${asked.verification_uri_complete}"></iframe>`,
          "/form": `<!doctype html><form method="post" enctype="text/plain" action="${approve}">` +
            `<input name='${start},"x":"' value='"${end}'><button>Go</button></form>`,
          "/script": `<!doctype html><body><script type="module">
            for (const mode of ["no-cors", "cors"]) {
              for (const type of ["text/plain", "application/json"]) {
                await fetch("${approve}", {
                  method: "POST", mode, credentials: "include", headers: { "content-type": type }, body: '${decision}'
                }).catch(() => {})
              }
            }
            document.body.dataset.done = "yes"
          </script>`
        }
        const evil = yield* neighbour((path) => ({ body: pages[path] ?? "" }))
        for (const site of [evil.url, evil.url.replace("127.0.0.1", "localhost")]) {
          yield* step(() => page.goto(`${site}/frame`))
          yield* step(async () => {
            const frame = await (await page.waitForSelector("iframe")).contentFrame()
            await frame?.waitForLoadState()
            assert.notInclude(await frame?.content(), "<script")
          })
          yield* step(() => page.goto(`${site}/form`))
          yield* step(() => page.getByRole("button", { name: "Go" }).click())
          yield* step(() => page.waitForURL(approve))
          yield* text(page, /A page of another origin sent this request/)
          yield* step(() => page.goto(`${site}/script`))
          yield* step(() =>
            page.waitForFunction(() => document.body.dataset.done === "yes", undefined, { polling: 50 })
          )
        }
        assert.include(["authorization_pending", "slow_down"], (yield* poll).error)

        yield* step(() => page.goto(asked.verification_uri_complete))
        yield* step(() =>
          page.waitForFunction(() => Boolean(document.querySelector("input")?.value), undefined, { polling: 50 })
        )
        yield* tabTo(page, "Look it up")
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, new RegExp(`Is this your device[^]*${asked.user_code}`))
        yield* step(() => page.waitForSelector(".sp-gate .sp-acts button[aria-disabled=false]"))
        yield* tabTo(page, "Start and stop runs")
        yield* step(() => page.keyboard.press("Space"))
        yield* tabTo(page, "Let it in")
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /“build-agent\/1” is in/)
        assert.deepInclude(yield* poll, { scope: "runs:read" })
      }),
    Programs.timeout
  )
})
