import { assert, describe, it } from "@effect/vitest"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Page } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import { start } from "./support.ts"

const { step } = Browser

const text = (page: Page, wanted: RegExp) =>
  step(() =>
    page.waitForFunction(
      ([source, flags]) => new RegExp(source, flags).test(document.body.innerText),
      [wanted.source, wanted.flags] as const,
      { polling: 50 }
    )
  )

/** Clicks a button once it can be clicked: one that consents cannot be at first. */
const click = (page: Page, name: string) =>
  step(() => page.locator("main :is(a, button[aria-disabled=false])", { hasText: name }).click())

describe("the pairing page of a server", () => {
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
        yield* text(page, /^Sign out owner, and pair as <b>bob<\/b>\?$/m)
        const shown = yield* step(() => page.innerText("main"))
        for (const part of ["<img src=x onerror=alert(1)>", "do nothing but sign out"]) assert.include(shown, part)
        assert.strictEqual(yield* step(() => page.locator("main :is(img, dd b, h1 b)").count()), 0)
        assert.strictEqual(yield* subject, "owner")
        yield* click(page, "Stay signed in as owner")
        yield* step(() => page.waitForURL(`${url}/`))
        assert.strictEqual(yield* subject, "owner")

        yield* step(() => page.goto(`${url}/pair#token=${Redacted.value(code)}`))
        yield* click(page, "Sign out owner and pair as")
        yield* step(() => page.waitForURL(`${url}/`))
        assert.strictEqual(yield* subject, "<b>bob</b>")
      }),
    180_000
  )

  it.live(
    "L-01 BOOT-14: takes the code from the fragment, out of the address, and asks what it gives beside itself, wherever it is mounted",
    () =>
      Effect.gen(function*() {
        const chromium = yield* Browser.browser
        for (
          const [prefix, path] of [["", "/pair"], ["", "/pair/"], ["/a/b", "/a/b/pair"], [
            "/a/b",
            "/a/b/pair/"
          ]] as const
        ) {
          const server = yield* start({ routes: Sallyport.layer(prefix === "" ? {} : { prefix }) })
          const url = `http://127.0.0.1:${server.port}`
          const { code } = yield* Effect.orDie(server.links.issue({ issuedBy: "operator", subject: "ada", scopes: [] }))
          const context = yield* Browser.profile(chromium)
          const page = yield* step(() => context.newPage())
          const asked: Array<unknown> = []
          page.on("request", (request) => {
            const { pathname } = new URL(request.url())
            if (pathname.includes("/api/")) {
              asked.push([pathname, request.postDataJSON()?.credential.replaceAll("-", "")])
            }
          })
          const open = (address: string) =>
            step(async () => {
              asked.length = 0
              await page.goto("about:blank")
              await page.goto(url + address)
              await page.locator("h1").waitFor()
            })
          yield* open(`${path}#token=${Redacted.value(code)}`)
          yield* text(page, /^Pair this browser with 127\.0\.0\.1:\d+\?$/m)
          assert.strictEqual(page.url(), url + path)
          assert.deepStrictEqual(asked, [
            [`${prefix}/api/auth/session`, undefined],
            [`${prefix}/api/auth/bootstrap/preview`, Redacted.value(code).replaceAll("-", "")]
          ])
          for (const address of [path, `${path}?token=${Redacted.value(code)}`]) {
            yield* open(address)
            yield* step(() => page.getByLabel("Pairing code").waitFor())
            assert.deepStrictEqual(asked, [], address)
          }
        }
      }),
    180_000
  )

  it.live("goes on to where the host says, without a way out of the attribute", () =>
    Effect.gen(function*() {
      const continueTo = "/\"><script>alert(1)</script>" as const
      const server = yield* start({ routes: Sallyport.layer({ continueTo }) })
      const { text } = yield* server.send({ path: "/pair" })
      assert.notInclude(text, "<script>")
      assert.include(text, "data-continue-to=\"/&#34;&#62;&#60;script&#62;alert(1)&#60;/script&#62;\"")
    }))
})
