import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, Fiber, Option, Redacted } from "effect"
import * as NFS from "node:fs"
import type { BrowserContext, Page } from "playwright-core"
import { browser, profile, step } from "../../../test-support/browser.ts"
import { temporaryDirectory, timeout } from "../../../test-support/programs.ts"
import { ended, events, log, numbers, seen } from "../../agent-run/test/support.ts"
import * as Application from "../src/Application.ts"
import { Desktop } from "../src/Desktop.ts"
import * as NodeDesktop from "../src/NodeDesktop.ts"

/** Starts the application on a profile. `addresses` is what its windows were opened with. */
const start = Effect.fnUntraced(function*(stateDirectory: string, context: BrowserContext, changeTakes: string) {
  const addresses: Array<string> = []
  const desktop = NodeDesktop.make({ stateDirectory, profile: Effect.succeed(context) })
  const noting: Desktop["Service"] = {
    stateDirectory,
    ready: Effect.map(
      desktop.ready,
      Option.map((instance) => ({
        ...instance,
        openWindow: (url) => {
          addresses.push(Redacted.value(url))
          return instance.openWindow(url)
        }
      }))
    )
  }
  const opened = context.waitForEvent("page")
  const fiber = yield* Application.run.pipe(
    Effect.provideService(Desktop, noting),
    Effect.provide([
      NodeServices.layer,
      ConfigProvider.layer(ConfigProvider.fromEnvRecord({ AGENT_CHANGE_TAKES: changeTakes }))
    ]),
    Effect.forkScoped
  )
  return { addresses, fiber, opened }
})

/** Waits until a window shows that it is signed in, and returns its origin. */
const signedIn = Effect.fnUntraced(function*(page: Page) {
  yield* step(() => page.waitForSelector("#agent:visible"))
  assert.strictEqual(yield* step(() => page.innerText("#status")), "Signed in as owner.")
  assert.strictEqual(new URL(page.url()).href, `${new URL(page.url()).origin}/`)
  return new URL(page.url()).origin
})

/** Counts the sessions, as a window lists them. */
const sessions = (page: Page) =>
  step(() => page.evaluate(async () => (await (await fetch("/api/auth/sessions")).json()).sessions.length))

it.live(
  "L-04 RUN-17: a window is signed in by a link that works once, one of a second instance by its profile; quit, the " +
    "application leaves nothing open, and goes on with its run at the next start",
  () =>
    Effect.gen(function*() {
      const state = `${yield* temporaryDirectory}/state`
      const chromium = yield* browser
      const windows = yield* profile(chromium)

      // Its agent does not come to its first change.
      const first = yield* start(state, windows, "1 hour")
      const page = yield* step(() => first.opened)
      const origin = yield* signedIn(page)
      const [link = ""] = first.addresses
      const credential = new URLSearchParams(new URL(link).hash.slice(1)).get("token")
      assert.strictEqual(link, `${origin}/pair#token=${credential}`)
      const again = yield* step(() =>
        fetch(`${origin}/api/auth/bootstrap`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ credential })
        })
      )
      assert.strictEqual(again.status, 401)
      assert.strictEqual(NFS.statSync(state).mode & 0o777, 0o700)
      assert.isNotEmpty(NFS.readdirSync(`${state}/secrets`))

      const second = yield* start(state, windows, "1 hour")
      yield* Fiber.join(second.fiber)
      assert.deepStrictEqual(second.addresses, [])
      const other = yield* step(() => second.opened)
      assert.strictEqual(yield* signedIn(other), origin)
      assert.deepStrictEqual(first.addresses, [link, `${origin}/`])

      yield* step(() => page.click("#start"))
      yield* seen(page, 1)
      yield* step(() => page.close())
      yield* step(() => other.reload())
      yield* seen(other, 1)
      assert.isUndefined(first.fiber.pollUnsafe())
      yield* step(() => other.close())
      yield* Fiber.join(first.fiber)
      assert.strictEqual(yield* step(() => fetch(origin).then(() => "answered", () => "refused")), "refused")
      // SQLite has merged its log: the database was closed after all that writes to it.
      assert.deepStrictEqual(NFS.readdirSync(state).toSorted(), ["application.db", "secrets"])

      const third = yield* start(state, yield* profile(chromium), "1 millis")
      const reopened = yield* step(() => third.opened)
      yield* signedIn(reopened)
      yield* step(() => reopened.click("#yes"))
      assert.strictEqual(yield* ended(reopened), "succeeded ")
      const shown = yield* log(reopened)
      assert.deepStrictEqual(shown.map(({ seq }) => seq), numbers(events))
      assert.lengthOf(new Set(shown.map(({ text }) => text)), events)
      // The session of the first start has ended.
      assert.strictEqual(yield* sessions(reopened), 1)
    }),
  timeout
)
