import { assert, describe, it } from "@effect/vitest"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Page } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import { connect, having, network, pretend, type ServerOptions, start } from "../../client/test/support.ts"
import { axe, bundle, pageRoutes, postsOf, problemsOf, refuse, text } from "./support.ts"

const { step } = Browser

const timeout = 300_000

/** Starts a server with the page, and a browser that is not signed in. */
const opened = Effect.fnUntraced(function*(options: ServerOptions = {}) {
  const server = yield* start({ ...options, routes: pageRoutes(yield* bundle) })
  const wire = yield* network(server.port)
  const owner = yield* connect(server.url, having(yield* server.token()))
  const chromium = yield* Browser.browser
  const context = yield* Browser.profile(chromium)
  const page = yield* step(() => context.newPage())
  return { server, wire, owner, context, page, problems: problemsOf(page), posts: postsOf(page) }
})

/** Makes a code that no server has issued. */
const wrongCode = Effect.map(PairingCode.generate("device"), Redacted.value).pipe(
  Effect.provide(SecureRandom.layerWebCrypto)
)

const issue = (owner: { readonly access: Effect.Success<ReturnType<typeof connect>>["access"] }, label?: string) =>
  Effect.map(owner.access.issueLink(label === undefined ? {} : { label }), ({ code, link }) => ({
    code: Redacted.value(code),
    link
  }))

/** Opens a pairing address in a page of its own making, as a camera would. */
const open = (page: Page, url: string, code: string) =>
  step(async () => {
    await page.goto("about:blank")
    await page.goto(`${url}/pairing#token=${code}`)
  })

const devices = (owner: { readonly access: Effect.Success<ReturnType<typeof connect>>["access"] }) =>
  Effect.map(owner.access.sessions, (sessions) => sessions.filter(({ current }) => !current))

const pairButton = (page: Page) => page.getByRole("button", { name: "Pair this browser" })
const focused = (page: Page) => step(() => page.evaluate(() => document.activeElement?.textContent))

describe("pairing in a browser", () => {
  it.live(
    "BOOT-14 C-40 L-37: asks as whom, for what and until when, takes the code out of the address, and pairs once",
    () =>
      Effect.gen(function*() {
        const { context, owner, page, posts, problems, wire } = yield* opened()
        const { code } = yield* issue(owner, "Ada’s <b>phone</b>")
        yield* open(page, wire.url, code)
        yield* text(page, /Pair this browser with 127\.0\.0\.1:\d+\?/)
        assert.strictEqual(page.url(), `${wire.url}/pairing`)
        assert.deepStrictEqual(yield* step(() => page.locator(".sp-facts :is(dt, dd)").allInnerTexts()), [
          "Server",
          new URL(wire.url).host,
          "Signs in",
          "owner",
          "Link",
          "“Ada’s <b>phone</b>”",
          "May",
          "do everything",
          "Ends",
          "after 30 days without use"
        ])
        assert.strictEqual(yield* step(() => page.inputValue("input")), "Chrome on Linux")
        // Neither a key that is still held down nor a reload is an answer, and the first tab stop is no button.
        assert.match(String(yield* focused(page)), /^Pair this browser with/)
        yield* step(() => page.keyboard.press("Enter"))
        yield* step(() => page.keyboard.press("Space"))
        assert.deepStrictEqual(posts, ["/api/auth/bootstrap/preview"])
        assert.deepStrictEqual(yield* step(() => context.cookies()), [])
        yield* axe(page, "pair-ask")

        yield* step(() => page.getByRole("button", { name: "Don’t pair" }).click())
        yield* text(page, /Nothing was changed/)
        assert.lengthOf(yield* owner.access.links, 1)

        // By the keyboard alone: the code stands in the field still, and the name can be changed.
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /Pair this browser with/)
        yield* step(() => page.keyboard.press("Tab"))
        yield* step(() => page.keyboard.press("ControlOrMeta+A"))
        yield* step(() => page.keyboard.type("Kitchen \u{1f373}"))
        yield* step(() => pairButton(page).focus())
        yield* step(() => page.waitForSelector("button[data-kind=primary][aria-disabled=false]"))
        posts.length = 0
        yield* step(() =>
          page.evaluate(() => {
            const button = document.querySelector<HTMLButtonElement>("button[data-kind=primary]")
            for (let click = 0; click < 4; click++) button?.click()
          })
        )
        yield* step(() => page.waitForURL(`${wire.url}/connections`))
        assert.deepStrictEqual(posts, ["/api/auth/bootstrap"])
        assert.deepStrictEqual((yield* devices(owner)).map(({ device }) => device.label), ["Kitchen \u{1f373}"])
        assert.deepStrictEqual(yield* owner.access.links, [])
        assert.deepStrictEqual(problems, [])
      }),
    timeout
  )

  it.live(
    "BOOT-01 BOOT-13 C-04: groups what is typed, keeps the caret, takes I, L and O for digits, and reads what is pasted",
    () =>
      Effect.gen(function*() {
        const { owner, page, posts, wire } = yield* opened()
        yield* step(() => page.goto(`${wire.url}/pairing`))
        const field = page.getByLabel("Pairing code")
        yield* step(() => field.waitFor())
        const value = step(() => field.inputValue())
        const caret = step(() => field.evaluate((input: HTMLInputElement) => input.selectionStart))
        yield* step(() => page.keyboard.type("7k3q 9xwf-b2"))
        assert.strictEqual(yield* value, "7K3Q-9XWF-B2")
        yield* text(page, /10 of 16 symbols/)
        yield* axe(page, "pair-typing")
        yield* step(() => field.evaluate((input: HTMLInputElement) => input.setSelectionRange(2, 2)))
        yield* step(() => page.keyboard.type("oil"))
        assert.deepStrictEqual([yield* value, yield* caret], ["7K01-13Q9-XWFB-2", 6])
        yield* step(() => page.keyboard.press("Backspace"))
        assert.deepStrictEqual([yield* value, yield* caret], ["7K01-3Q9X-WFB2", 4])
        yield* step(() => page.keyboard.press("Delete"))
        assert.deepStrictEqual([yield* value, yield* caret], ["7K01-Q9XW-FB2", 4])

        const paste = (text: string) =>
          step(() =>
            field.evaluate((input: HTMLInputElement, text) => {
              input.select()
              const clipboardData = new DataTransfer()
              clipboardData.setData("text", text)
              if (
                input.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))
              ) {
                document.execCommand("insertText", false, text)
              }
            }, text)
          )
        const { code } = yield* issue(owner)
        const wide = [...code].map((symbol) => String.fromCharCode(symbol.charCodeAt(0) + 0xfee0)).join("")
        for (
          const pasted of [
            `${wire.url}/pair#token=${code}`,
            `  ${wire.url}/pair#token=${code}\n`,
            code.toLowerCase().replaceAll("-", " – "),
            `${code.slice(0, 7)}\u200b${code.slice(7)}`,
            wide
          ]
        ) {
          yield* step(() => field.fill(""))
          yield* paste(pasted)
          assert.strictEqual(yield* value, code, JSON.stringify(pasted))
          yield* text(page, /Complete\./)
        }
        yield* step(() => field.fill(""))
        yield* paste(`https://media.example.com/pair#token=${code}`)
        yield* text(page, /This address is of another server/)
        const link = page.getByRole("link", { name: "media.example.com" })
        assert.strictEqual(
          yield* step(() => link.getAttribute("href")),
          `https://media.example.com/pair#token=${code}`
        )
        assert.strictEqual(yield* value, "")
        yield* axe(page, "pair-elsewhere")

        // A typing error is told in the page, and costs nothing.
        const wrong = (code.startsWith("7") ? "8" : "7") + code.slice(1)
        yield* paste(wrong)
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /This code has a typing error/)
        assert.strictEqual(yield* value, wrong)
        assert.strictEqual(yield* step(() => field.getAttribute("aria-invalid")), "true")
        yield* axe(page, "pair-mistyped")
        yield* step(() => field.fill("7K3Q"))
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /This code is not complete\.\s+It has 16 symbols; you entered 4\./)
        yield* open(page, wire.url, wrong)
        yield* text(page, /This code has a typing error/)
        assert.deepStrictEqual(posts, [])

        // An address that is opened on this page changes the fragment only.
        yield* step(() =>
          page.evaluate((hash) => {
            location.hash = hash
          }, `#token=${code}`)
        )
        yield* text(page, /Pair this browser with/)
        assert.strictEqual(page.url(), `${wire.url}/pairing`)
      }),
    timeout
  )

  it.live(
    "BOOT-05 BOOT-06 L-15: tells a code that was used, has expired, was withdrawn or never was apart, and counts down a limit",
    () =>
      Effect.gen(function*() {
        const { context, owner, page, posts, server, wire } = yield* opened()
        const used = yield* issue(owner)
        const other = yield* connect(server.url, having(Redacted.make("none")))
        yield* other.access.pair({ code: Redacted.make(used.code) })
        const revoked = yield* issue(owner)
        yield* owner.access.revokeLink(revoked.link.id)
        const expired = yield* owner.access.issueLink({ lifetime: "1 second" })
        yield* open(page, wire.url, used.code)
        yield* text(page, /This code was used already\./)
        yield* axe(page, "pair-used")
        yield* open(page, wire.url, revoked.code)
        yield* text(page, /This code was withdrawn\./)
        yield* Effect.sleep("1100 millis")
        yield* open(page, wire.url, Redacted.value(expired.code))
        yield* text(page, /This code has expired\./)
        const never = yield* wrongCode
        yield* open(page, wire.url, never)
        yield* text(page, /The server does not know this code\./)
        while (true) {
          yield* open(page, wire.url, never)
          yield* step(() => page.waitForSelector("[role=alert] strong"))
          if (/Too many/.test(yield* step(() => page.innerText("[role=alert]")))) break
        }
        yield* text(page, /Too many wrong codes\.\s+You can try again in \d+:\d\d\./)
        assert.strictEqual(yield* step(() => page.getByLabel("Pairing code").inputValue()), never)
        assert.strictEqual(
          yield* step(() => page.getByRole("button", { name: "Continue" }).getAttribute("aria-disabled")),
          "true"
        )
        yield* axe(page, "pair-limited")
        // Whatever was wrong, nothing but a look was asked for, and no one came in.
        assert.deepStrictEqual([...new Set(posts)], ["/api/auth/bootstrap/preview"])
        assert.deepStrictEqual(yield* step(() => context.cookies()), [])
        assert.lengthOf(yield* devices(owner), 1, "the one that used its code before")
      }),
    timeout
  )

  it.live(
    "C-45 SESS-20: says what changes for a browser that is signed in, as another subject or as the same",
    () =>
      Effect.gen(function*() {
        const { owner, page, server, wire } = yield* opened()
        const first = yield* issue(owner)
        yield* open(page, wire.url, first.code)
        yield* step(() => pairButton(page).click())
        yield* step(() => page.waitForURL(`${wire.url}/connections`))

        const again = yield* issue(owner)
        yield* open(page, wire.url, again.code)
        yield* text(page, /This browser is paired already[^]*It is signed in as owner, as “Chrome on Linux”/)
        yield* axe(page, "pair-already")
        assert.lengthOf(yield* owner.access.links, 1, "the code was not used")
        yield* step(() => page.getByText("Use the code here all the same").click())
        yield* step(() => page.getByRole("button", { name: "Pair this browser again" }).click())
        yield* step(() => page.waitForURL(`${wire.url}/connections`))
        assert.lengthOf(yield* devices(owner), 1, "the new session takes the place of the old one")

        const guest = yield* server.code(["runs:read"], "<b>guest</b>")
        yield* open(page, wire.url, Redacted.value(guest))
        yield* text(page, /Sign out owner, and pair as <b>guest<\/b>\?/)
        yield* axe(page, "pair-other")
        assert.strictEqual(yield* step(() => page.locator("main b b").count()), 0)
        yield* step(() => page.getByRole("link", { name: "Stay signed in as owner" }).click())
        yield* step(() => page.waitForURL(`${wire.url}/connections`))
        assert.deepStrictEqual((yield* devices(owner)).map(({ subject }) => subject), ["owner"], "nothing was changed")
        yield* open(page, wire.url, Redacted.value(guest))
        yield* step(() => page.getByRole("button", { name: /^Sign out owner and pair as/ }).click())
        yield* step(() => page.waitForURL(`${wire.url}/connections`))
        yield* text(page, /You cannot see the connections/)
        assert.deepStrictEqual((yield* devices(owner)).map(({ subject }) => subject), ["<b>guest</b>"])
      }),
    timeout
  )

  it.live(
    "C-31 BOOT-10: keeps the code while the server is away, and asks again by the same attempt if an answer is lost",
    () =>
      Effect.gen(function*() {
        const { context, owner, page, server, wire } = yield* opened()
        yield* step(() => page.goto(`${wire.url}/pairing`))
        const { code } = yield* issue(owner)
        yield* step(() => page.getByLabel("Pairing code").fill(code))
        // A server that holds its answers back until it has begun, and a proxy that answers for it meanwhile.
        let release = () => {}
        const held = new Promise<void>((resolve) => {
          release = resolve
        })
        yield* step(() =>
          page.route("**/api/auth/bootstrap/preview", async (route) => {
            await held
            await route.continue()
          })
        )
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /Waiting for the server\.\s+This is usual for up to a minute after a start/)
        release()
        yield* text(page, /Pair this browser with/)
        yield* step(() => page.unroute("**/api/auth/bootstrap/preview"))
        const proxy = yield* pretend((_request, response) => {
          response.writeHead(503, { "content-type": "text/html" }).end("<h1>503</h1>")
        })
        yield* step(() => page.getByRole("button", { name: "Don’t pair" }).click())
        wire.lead(Number(new URL(proxy.url).port))
        wire.cutAll()
        yield* step(() => page.getByRole("button", { name: "Continue" }).click())
        yield* text(page, /The server is starting/)
        yield* axe(page, "pair-starting")
        wire.lead(server.port)
        wire.cutAll()
        yield* text(page, /Pair this browser with/)
        yield* step(() => page.getByRole("button", { name: "Don’t pair" }).click())
        yield* step(() => page.getByLabel("Pairing code").focus())

        wire.lead(1)
        wire.cutAll()
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /The server does not answer[^]*Trying again by itself\./)
        yield* axe(page, "pair-down")
        wire.lead(server.port)
        yield* text(page, /Pair this browser with/)

        yield* step(() => context.setOffline(true))
        yield* step(() => page.getByRole("button", { name: "Don’t pair" }).click())
        yield* step(() => page.getByRole("button", { name: "Continue" }).click())
        yield* text(page, /This device is offline/)
        yield* axe(page, "pair-offline")
        yield* step(() => context.setOffline(false))
        yield* text(page, /Pair this browser with/)

        // The code is used on the server, and every answer of that is lost.
        let lost = 0
        yield* step(() =>
          page.route("**/api/auth/bootstrap", async (route) => {
            lost++
            await route.fetch()
            await route.abort("connectionreset")
          })
        )
        yield* step(() => pairButton(page).click())
        yield* text(page, /The answer did not arrive, so the code may have been used\./)
        assert.isAtLeast(lost, 2)
        yield* axe(page, "pair-unclear")
        yield* step(() => page.unroute("**/api/auth/bootstrap"))
        // A server that stops may have used the code before.
        yield* step(() =>
          page.route("**/api/auth/bootstrap", refuse(503, { _tag: "Unavailable", code: "unavailable" }))
        )
        yield* step(() => pairButton(page).click())
        yield* text(page, /The server could not finish, so the code may have been used\./)
        yield* step(() => page.unroute("**/api/auth/bootstrap"))
        yield* step(() => pairButton(page).click())
        yield* step(() => page.waitForURL(`${wire.url}/connections`))
        assert.lengthOf(yield* devices(owner), 1)
      }),
    timeout
  )

  it.live(
    "BOOT-14: under desktop-managed-local the window that the application opens is paired without a question",
    () =>
      Effect.gen(function*() {
        const { owner, page, posts, server, wire } = yield* opened({ policy: "desktop-managed-local" })
        const code = Redacted.value(yield* server.code())
        yield* step(() =>
          page.route("**/api/auth/bootstrap", refuse(503, { _tag: "Unavailable", code: "unavailable" }))
        )
        yield* open(page, wire.url, code)
        yield* text(page, /The server could not finish, so the code may have been used\./)
        yield* step(() => page.unroute("**/api/auth/bootstrap"))
        posts.length = 0
        yield* open(page, wire.url, code)
        yield* step(() => page.waitForURL(`${wire.url}/connections`))
        assert.deepStrictEqual(posts, ["/api/auth/bootstrap"])
        yield* text(page, /^Live$/m)
        assert.lengthOf(yield* devices(owner), 1)
      }),
    timeout
  )

  it.live(
    "C-43 HTTP-08: sends no code over plain http from another machine, and leads to https",
    () =>
      Effect.gen(function*() {
        const { page, posts, server } = yield* opened({ policy: "remote-reachable" })
        const code = Redacted.value(yield* server.code())
        yield* step(() =>
          page.route("http://192.168.7.7:4590/**", async (route) => {
            const url = route.request().url().replace("192.168.7.7:4590", `127.0.0.1:${server.port}`)
            await route.fulfill({ response: await route.fetch({ url, headers: {} }) })
          })
        )
        yield* open(page, "http://192.168.7.7:4590", code)
        yield* text(page, /This address is not secure[^]*Your code was not sent\./)
        assert.deepStrictEqual(posts, [])
        assert.strictEqual(
          yield* step(() => page.getByRole("link", { name: "Open https" }).getAttribute("href")),
          `https://192.168.7.7:4590/pairing#token=${code}`
        )
        yield* step(() => page.getByText("The server is yours").click())
        yield* axe(page, "pair-insecure")
        // On the machine itself it works without https.
        yield* open(page, `http://localhost:${server.port}`, code)
        yield* text(page, /Pair this browser with/)
      }),
    timeout
  )
})
