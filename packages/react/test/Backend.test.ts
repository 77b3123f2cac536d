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
import { sentence } from "../../client/test/support.ts"
import { axe, bundle, documents, postsOf, problemsOf, refuse, signIn, text } from "./support.ts"

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
    const database = new DatabaseSync(NPath.join(state, "sallyport.db"), { timeout: 10_000 })
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

/** Sends a form of the device grant, as a terminal does that is not signed in. */
const form = (server: { readonly url: string }, path: string, parameters: Record<string, string>) =>
  Backend.request(server.url + path, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded", "user-agent": "build-agent/1" },
    body: new URLSearchParams({ client_id: "build-agent", ...parameters }).toString()
  })

describe("an owner's decisions in a browser", () => {
  it.live(
    "CONN-14 CONN-08 L-37 AGENT-03: lets a device in by the code that it shows, with less than it asks for, and never by an address alone",
    () =>
      Effect.gen(function*() {
        const { page, posts, problems, server, token } = yield* opened()
        const ask = Effect.map(
          form(server, "/oauth/device_authorization", { scope: "runs:read runs:operate" }),
          (answer) =>
            answer.json<{
              readonly device_code: string
              readonly user_code: string
              readonly verification_uri: string
              readonly verification_uri_complete: string
            }>()
        )
        const poll = (code: string) =>
          Effect.map(
            form(server, "/oauth/token", {
              grant_type: "urn:ietf:params:oauth:grant-type:device_code",
              device_code: code
            }),
            (answer) => answer.json<{ readonly scope?: string; readonly error?: string }>()
          )
        const button = (name: string) => step(() => page.getByRole("button", { name, exact: true }).click())
        const settled = step(() => page.waitForSelector(".sp-gate .sp-acts button[aria-disabled=false]"))
        const enter = Effect.fnUntraced(function*(code: string) {
          yield* step(() => page.getByLabel("Code on the device").fill(code))
          yield* step(() => page.keyboard.press("Enter"))
        })

        // The address fills the code in, and asks nothing of the server.
        const first = yield* ask
        assert.strictEqual(first.verification_uri_complete, `${server.url}/device?user_code=${first.user_code}`)
        posts.length = 0
        yield* step(() => page.goto(first.verification_uri_complete))
        yield* text(page, /^Let a device in$/m)
        const field = page.getByLabel("Code on the device")
        yield* step(() => page.waitForFunction(() => Boolean(document.querySelector("input")?.value)))
        assert.strictEqual(yield* step(() => field.inputValue()), first.user_code)
        yield* axe(page, "device-enter")
        assert.deepStrictEqual(posts, [])
        yield* step(() => field.focus())
        yield* step(() => page.keyboard.press("Enter"))
        yield* text(page, new RegExp(`Is this your device[^]*${first.user_code}[^]*“build-agent/1”`))
        yield* axe(page, "device-review")
        assert.deepStrictEqual(posts, ["/api/auth/connect-clients/find"])
        yield* step(() => page.getByLabel("Start and stop runs").uncheck())
        yield* settled
        yield* step(() => page.getByRole("button", { name: "Let it in" }).dblclick())
        yield* text(page, /“build-agent\/1” is in/)
        yield* axe(page, "device-approved")
        assert.deepStrictEqual(posts.slice(1), ["/api/auth/connect-clients/approve"])
        assert.deepInclude(yield* poll(first.device_code), { scope: "runs:read" })

        // By hand: in any form, with a letter that other codes take for a digit; rejected, and told so.
        yield* step(() => page.goto(first.verification_uri))
        yield* step(() => page.getByLabel("Code on the device").waitFor())
        yield* enter("WDJ")
        yield* text(page, /This code is not complete\.\s+It has 8 letters; you entered 3\./)
        yield* enter("llll-wxzz")
        assert.strictEqual(yield* step(() => page.getByLabel("Code on the device").inputValue()), "LLLL-WXZZ")
        yield* text(page, /No device is waiting with this code\./)
        yield* axe(page, "device-unknown")
        yield* enter(first.user_code)
        yield* text(page, /This code was decided already\.\s+The device is approved by owner\./)
        const second = yield* ask
        yield* enter(second.user_code.toLowerCase().replace("-", " "))
        yield* text(page, /Is this your device/)
        yield* settled
        yield* button("Reject")
        yield* text(page, /“build-agent\/1” was not let in/)
        assert.deepInclude(yield* poll(second.device_code), { error: "access_denied" })

        // Another session decides while this page asks.
        yield* button("Enter another code")
        const third = yield* ask
        yield* enter(third.user_code)
        yield* text(page, /Is this your device/)
        const { client } = (yield* Backend.post(server, "/api/auth/connect-clients/find", token, {
          code: third.user_code
        })).json<{ readonly client: { readonly proofKeyThumbprint: string } }>()
        yield* Backend.post(server, "/api/auth/connect-clients/block", token, { client: client.proofKeyThumbprint })
        yield* text(page, /This code was decided already\.\s+The device is blocked by owner\./)

        // Wrong codes are counted, two of them until here, and a page that is not signed in comes back to the request.
        for (const wrong of ["BBBB-BBBB", "CCCC-CCCC", "DDDD-DDDD"]) {
          yield* enter(wrong)
          yield* text(page, /No device is waiting with this code\./)
        }
        yield* enter("FFFF-FFFF")
        yield* text(page, /Too many wrong codes/)
        yield* axe(page, "device-limited")
        yield* step(() => page.context().clearCookies())
        yield* step(() => page.goto(third.verification_uri_complete))
        yield* text(page, /^This browser is not paired$/m)
        assert.strictEqual(
          yield* step(() => page.getByRole("link", { name: "Enter a code" }).getAttribute("href")),
          `/pair?${new URLSearchParams({ continue: `/device?user_code=${third.user_code}` })}`
        )
        const lesser = yield* Backend.post(server, "/api/auth/pairing-links", token, { scopes: ["runs:read"] })
        yield* signIn(page, server.url, lesser.json<{ readonly code: string }>().code)
        yield* step(() => page.goto(third.verification_uri_complete))
        yield* text(page, /^You cannot decide this$/m)
        yield* axe(page, "device-lesser")
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "SESS-18 L-37: shows what a program may do and asks for beside it, and grants some of it at a click, which the activity tells",
    () =>
      Effect.gen(function*() {
        const { page, posts, problems, server, token } = yield* opened()
        const code = yield* Backend.post(server, "/api/auth/pairing-links", token, {
          scopes: ["runs:read"],
          label: "CI machine"
        })
        const machine = (yield* Backend.exchange(server, code.json<{ readonly code: string }>().code))
          .json<{ readonly access_token: string }>().access_token
        const ask = Backend.post(server, "/api/auth/session/scopes", machine, {
          scopes: ["runs:operate", "credentials:read"]
        })
        const abort = Backend.post(server, "/api/threads/none/abort", machine, {})
        const settled = step(() => page.waitForSelector("#asking button[aria-disabled=false]"))
        assert.strictEqual((yield* abort).status, 403)
        assert.strictEqual((yield* ask).status, 200)
        yield* text(page, /Asking for more[^]*CI machine[^]*May watch runs[^]*It asks to do this as well/)
        yield* text(page, /CI machine asks to do more: start and stop runs and see which credentials are set\./)
        yield* axe(page, "asking")
        posts.length = 0
        yield* step(() => page.locator("#asking").getByLabel("See which credentials are set").uncheck())
        yield* settled
        yield* step(() => page.getByRole("button", { name: "Allow CI machine to do more", exact: true }).dblclick())
        yield* step(() => page.waitForSelector("#asking", { state: "detached" }))
        assert.lengthOf(posts, 1)
        assert.notInclude([401, 403], (yield* abort).status)
        yield* text(page, /owner let CI machine do more\. It may watch, start and stop runs\./)
        yield* ask
        yield* text(page, /Asking for more/)
        yield* settled
        yield* step(() => page.getByRole("button", { name: "Don’t allow CI machine to do more" }).click())
        yield* step(() => page.waitForSelector("#asking", { state: "detached" }))
        yield* text(page, /owner did not let CI machine do more\./)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

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
        // If it could not be checked, the server says why.
        yield* step(() => page.route("**/test", refuse(409, { _tag: "Conflict", code: "undecryptable" })))
        yield* step(() => page.getByRole("button", { name: "Check Anthropic API key" }).click())
        yield* text(page, new RegExp(`${sentence}\\.`))
        yield* step(() => page.unroute("**/test"))
        yield* step(() => page.route("**/test", (route) => route.abort("connectionreset")))
        yield* step(() => page.getByRole("button", { name: "Check Anthropic API key" }).click())
        yield* text(page, /The answer did not arrive\. Nothing was changed\./)
        yield* step(() => page.unroute("**/test"))
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
        // The list may hear of it before the dialog has its answer and closes.
        yield* step(() => page.locator("dialog").waitFor({ state: "detached" }))
        assert.notInclude(yield* step(() => page.content()), "AKIA")
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
