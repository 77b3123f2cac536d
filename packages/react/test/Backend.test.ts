/**
 * Opens the page on the reference backend, which takes devices through a relay and has credentials.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Persistence from "../../cli/src/Persistence.ts"
import * as StateDirectory from "../../cli/src/StateDirectory.ts"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Backend from "../../../test-support/backend.ts"
import * as Browser from "../../../test-support/browser.ts"
import { axe, bundle, documents, postsOf, problemsOf, signIn, text } from "./support.ts"

const { step } = Browser

/** Makes clients ask, as the relay's side of the backend would. */
const ask = (stateDirectory: string, clients: ReadonlyArray<readonly [thumbprint: string, label: string]>) =>
  Effect.gen(function*() {
    const state = yield* StateDirectory.open(stateDirectory)
    yield* Effect.gen(function*() {
      const store = yield* ConnectClientStore.ConnectClientStore
      for (const [proofKeyThumbprint, label] of clients) {
        yield* store.request({ proofKeyThumbprint, account: "ada@example.com", label, deviceType: "phone" })
      }
    }).pipe(
      Effect.provide(
        ConnectClientStore.layer.pipe(
          Layer.provide(Persistence.layer({ database: undefined, state })),
          Layer.provide(NodeCrypto.layer)
        )
      )
    )
  }).pipe(Effect.provide([NodeServices.layer, NodeCrypto.layer]), Effect.orDie)

/** Changes the database behind the backend's back. */
const tamper = (state: string, statement: string) =>
  Effect.sync(() => {
    const database = new DatabaseSync(NPath.join(state, "sallyport.db"))
    database.exec(`PRAGMA ignore_check_constraints = ON; ${statement}`)
    database.close()
  })

const opened = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const state = yield* Backend.freshState
  const server = yield* Backend.serve(state, ...args)
  const token = yield* Backend.pair(server)
  const chromium = yield* Browser.browser
  const page = yield* Effect.flatMap(Browser.profile(chromium), (context) => step(() => context.newPage()))
  // The backend's own pages are built from these parts; here they are as they stand in this folder.
  const files = documents(yield* bundle)
  for (const { body, contentType, headers, path } of files) {
    yield* step(() => page.route(server.url + path, (route) => route.fulfill({ body, contentType, headers })))
  }
  const problems = problemsOf(page)
  const posts = postsOf(page)
  const links = yield* Backend.post(server, "/api/auth/pairing-links", token, {})
  yield* signIn(page, server.url, links.json<{ readonly code: string }>().code)
  yield* text(page, /Live/)
  return { state, server, token, page, problems, posts }
})

const first = `first${"a".repeat(38)}`
const second = `second${"b".repeat(37)}`
const third = "c".repeat(43)

describe("an owner's decisions in a browser", () => {
  it.live(
    "L-36 L-37 CONN-08 CONN-10: shows who waits on a server of this machine only, decides once, and blocks with a reason",
    () =>
      Effect.gen(function*() {
        const { page, posts, problems, server, state, token } = yield* opened()
        yield* text(page, /Who may ask to connect/)
        yield* ask(state, [[first, "Pixel 9"], [second, "<b>evil</b>"], [third, "iPad"]])
        yield* text(page, /Waiting for you[^]*“Pixel 9”[^]*Its screen must show/)
        yield* axe(page, "waiting")

        // Every button of the group is covered, from the first click on.
        posts.length = 0
        yield* step(() => page.waitForSelector("#waiting li:first-child .sp-b[aria-disabled=false]"))
        yield* step(() =>
          page.evaluate(() => {
            for (const button of document.querySelectorAll<HTMLButtonElement>("#waiting li:first-child .sp-b")) {
              if (button.textContent !== "Block") { for (let click = 0; click < 3; click++) button.click() }
            }
          })
        )
        yield* text(page, /1 device is approved/)
        assert.deepStrictEqual(posts, ["/api/auth/connect-clients/approve"])

        yield* step(() =>
          page.locator("#waiting li", { hasText: "evil" }).getByRole("button", { name: "Block" }).click()
        )
        yield* step(() => page.waitForSelector("dialog[open]"))
        assert.strictEqual(yield* step(() => page.evaluate(() => document.activeElement?.textContent)), "Don’t block")
        yield* axe(page, "block")
        yield* step(() => page.keyboard.press("Escape"))
        yield* step(() => page.waitForSelector("dialog", { state: "detached" }))
        assert.deepStrictEqual(posts, ["/api/auth/connect-clients/approve"])
        yield* step(() =>
          page.locator("#waiting li", { hasText: "evil" }).getByRole("button", { name: "Block" }).click()
        )
        yield* step(() => page.getByLabel(/^Why/).fill("not ours"))
        yield* step(() => page.getByRole("button", { name: "Block “<b>evil</b>”" }).dblclick())
        yield* step(() => page.waitForSelector("dialog", { state: "detached" }))
        assert.deepStrictEqual(posts.slice(1), ["/api/auth/connect-clients/block"])
        yield* text(page, /blocked “<b>evil<\/b>” of ada@example\.com: “not ours”/)
        assert.strictEqual(yield* step(() => page.locator("main b", { hasText: /^evil$/ }).count()), 0)

        const { clients } = (yield* Backend.get(server, "/api/auth/connect-clients", token)).json<{
          readonly clients: ReadonlyArray<{ readonly label: string; readonly status: string }>
        }>()
        assert.deepStrictEqual(
          clients.map(({ label, status }) => `${label}: ${status}`).sort(),
          ["<b>evil</b>: blocked", "Pixel 9: approved", "iPad: pending"]
        )
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "L-35 CONN-01 CONN-02: an unknown mode stays unknown and is not overwritten; a change of the mode asks what it means",
    () =>
      Effect.gen(function*() {
        const { page, posts, server, state, token } = yield* opened()
        const modeOf = Effect.map(Backend.get(server, "/api/auth/connect-security-mode", token), ({ text }) => text)
        const puts: Array<string> = []
        page.on("request", (request) => {
          if (request.method() === "PUT") puts.push(request.postData() ?? "")
        })
        const checked = step(() => page.locator("#who input:checked").count())
        // To every device of the account: asked first, with the focus on what changes nothing.
        yield* step(() => page.getByLabel("Every device of my account").click())
        yield* step(() => page.waitForSelector("dialog[open]"))
        assert.strictEqual(
          yield* step(() => page.evaluate(() => document.activeElement?.textContent)),
          "Keep asking me"
        )
        yield* axe(page, "mode-account")
        yield* step(() => page.keyboard.press("Enter"))
        yield* step(() => page.waitForSelector("dialog", { state: "detached" }))
        assert.deepStrictEqual(puts, [])
        yield* step(() => page.getByLabel("Every device of my account").click())
        yield* step(() => page.getByRole("button", { name: "Let every device of the account in" }).dblclick())
        yield* step(() => page.waitForSelector("dialog", { state: "detached" }))
        assert.deepStrictEqual(puts, [JSON.stringify({ mode: "account" })])

        // And back, with the devices that came in by their account.
        yield* ask(state, [[first, "Pixel 9"], [second, "Old phone"]])
        yield* text(page, /“Old phone” came in by its account/)
        yield* step(() => page.getByLabel("Only devices that I approve").click())
        yield* text(page, /2 devices came in by their account alone/)
        yield* axe(page, "mode-trust")
        yield* step(() => page.locator("dialog").getByLabel(/Old phone/).uncheck())
        yield* step(() => page.getByRole("button", { name: "Approve 1, and ask the rest" }).click())
        yield* text(page, /1 device is approved/)
        assert.deepStrictEqual(puts.slice(1), [JSON.stringify({ mode: "client-approval", trust: [first] })])

        yield* tamper(state, "UPDATE sallyport_connect_settings SET mode = 'trust-everyone'")
        yield* step(() => page.reload())
        yield* text(page, /The server did not say which of these holds\./)
        assert.strictEqual(yield* checked, 0)
        assert.strictEqual(yield* step(() => page.locator("#who input:disabled").count()), 2)
        yield* axe(page, "mode-unknown")
        yield* step(() => page.getByRole("button", { name: "Ask again" }).click())
        yield* step(() => page.waitForSelector("#who [role=alert] .sp-note"))
        assert.strictEqual(yield* checked, 0)
        yield* step(() => page.getByText("Every device of my account").click({ force: true }))
        assert.include(yield* modeOf, "security_mode_unreadable")
        yield* tamper(state, "UPDATE sallyport_connect_settings SET mode = 'account'")
        yield* step(() => page.getByRole("button", { name: "Ask again" }).click())
        yield* step(() => page.waitForSelector("#who input:checked"))
        assert.lengthOf(puts, 2)
        assert.deepStrictEqual(posts.filter((path) => path.includes("connect")), [])
      }),
    300_000
  )

  it.live(
    "SCOPE-05 SCOPE-08 L-37: lists the credentials with their status and never their value, sets, replaces and removes them once",
    () =>
      Effect.gen(function*() {
        const { page, problems, server, token } = yield* opened()
        yield* text(page, /Credentials[^]*Anthropic API key\s+Not set/)
        const answer = yield* Backend.request(`${server.url}/api/credentials/anthropic.api-key`, {
          method: "PUT",
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          body: JSON.stringify({ value: "sk-never-shown" })
        })
        assert.strictEqual(answer.status, 200, answer.text)
        yield* text(page, /Anthropic API key\s+Set/)
        yield* step(() => page.getByRole("button", { name: "Check Anthropic API key" }).click())
        yield* text(page, /This server cannot check it\./)
        yield* axe(page, "credentials")
        assert.notInclude(yield* step(() => page.content()), "sk-never-shown")

        // Replaced by a double click, which is one request; removed after a question; a bundle is set whole.
        const sent: Array<string> = []
        page.on("request", (request) => {
          if (/^(?:PUT|DELETE)$/.test(request.method())) sent.push(`${request.method()} ${request.postData() ?? ""}`)
        })
        const button = (name: string) => page.getByRole("button", { name, exact: true })
        yield* step(() => button("Replace Anthropic API key").click())
        yield* step(() =>
          page.getByLabel("Anthropic API key", { exact: true }).and(page.locator("input")).fill("sk-of-the-page")
        )
        yield* axe(page, "credential-set")
        yield* step(() => button("Replace").dblclick())
        yield* text(page, /^Anthropic API key is set\.$/m)
        assert.deepStrictEqual(sent, [`PUT {"values":{"value":"sk-of-the-page"}}`])
        yield* step(() => button("Remove Anthropic API key").click())
        yield* text(page, /^Remove Anthropic API key\?$/m)
        yield* step(() => page.keyboard.press("Escape"))
        yield* step(() => button("Remove Anthropic API key").click())
        yield* step(() => page.locator("dialog button[data-kind=danger]").click())
        yield* text(page, /^Anthropic API key was removed\.$/m)
        yield* text(page, /Anthropic API key\s+Not set/)
        yield* step(() => button("Set AWS access key").click())
        yield* step(() => page.getByLabel("access key id").fill("AKIA"))
        assert.strictEqual(yield* step(() => button("Set").getAttribute("aria-disabled")), "true")
        yield* step(() => page.getByLabel("secret access key").fill("secret"))
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, /AWS access key\s+Set/)
        assert.deepStrictEqual(sent.slice(1), [
          "DELETE ",
          `PUT {"values":{"accessKeyId":"AKIA","secretAccessKey":"secret"}}`
        ])
        assert.notInclude(yield* step(() => page.content()), "AKIA")
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
