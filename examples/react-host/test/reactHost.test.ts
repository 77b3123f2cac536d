import { assert, describe, it } from "@effect/vitest"
import { BootstrapCredentialService, SessionCredentialService } from "@sallyport/core"
import { TestClient } from "@sallyport/testing/host"
import { Effect, Layer, Redacted } from "effect"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "vite"
import { axe, problemsOf } from "../../../packages/react/test/support.ts"
import * as Browser from "../../../test-support/browser.ts"
import * as Server from "../src/Server.ts"

const { step } = Browser
const root = fileURLToPath(new URL("..", import.meta.url))

const opened = Effect.gen(function*() {
  const files = yield* Effect.acquireRelease(
    Effect.sync(() => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-react-host-"))),
    (directory) => Effect.sync(() => NFS.rmSync(directory, { recursive: true }))
  )
  yield* step(() => build({ root, configFile: `${root}/vite.config.ts`, build: { outDir: files } }))
  const context = yield* Layer.build(Server.layer({ files, port: 0 }))
  return yield* Effect.provide(
    Effect.all({
      bootstrap: BootstrapCredentialService.BootstrapCredentialService,
      sessions: SessionCredentialService.SessionCredentialService,
      pairingUrl: TestClient.pairingUrl(),
      url: TestClient.serverUrl
    }),
    context
  )
})

describe("a React application of a host", () => {
  it.live(
    "WEB-03: shows its own page with the devices and links in it, in its own colours, live, and withdraws and signs out there",
    () =>
      Effect.gen(function*() {
        const { bootstrap, pairingUrl, sessions, url } = yield* opened
        const chromium = yield* Browser.browser
        const page = yield* Effect.flatMap(Browser.profile(chromium), (context) => step(() => context.newPage()))
        const problems = problemsOf(page)
        const heading = (name: string | RegExp) => step(() => page.getByRole("heading", { name }).waitFor())
        const headings = step(() => page.getByRole("heading").allInnerTexts())

        yield* step(() => page.goto(url))
        yield* heading("This browser is not paired")
        assert.notInclude(yield* step(() => page.innerText("body")), "tomatoes")
        yield* axe(page, "host-unpaired")
        yield* step(() => page.goto(Redacted.value(pairingUrl)))
        yield* heading("Pair this browser with Greenhouse?")
        yield* step(() => page.getByLabel("Name of this device").fill("Ada’s laptop"))
        yield* step(() => page.getByRole("button", { name: "Pair this browser" }).click())
        yield* step(() => page.waitForURL(`${url}/`))

        // What a person sees: the application's own words, then this device alone, and no link.
        yield* step(() => page.getByText("Today owner waters the tomatoes.", { exact: true }).waitFor())
        yield* step(() => page.locator("#devices li").waitFor())
        assert.deepStrictEqual(yield* headings, ["Greenhouse", "Devices", "Open links"])
        assert.match(
          yield* step(() => page.innerText("#devices li")),
          /^Ada’s laptop\s+This device\s+Here now\s+127\.0\.0\.1, this machine\s+May do everything\s+Let in by the operator\s+Sign out$/
        )
        assert.match(
          yield* step(() => page.innerText("#links")),
          /No link is open\.\s+No device can get in with a code right now\.$/
        )

        // The colours are the application's, light and dark, also those that only the components use.
        const style = (of: string, property: string) =>
          step(() =>
            page.locator(of).first().evaluate(
              (element, property) => getComputedStyle(element).getPropertyValue(property),
              property
            )
          )
        for (
          const [colorScheme, ground, chosen] of [
            ["light", "rgb(244, 247, 239)", "rgb(227, 243, 232)"],
            ["dark", "rgb(13, 18, 14)", "rgb(20, 48, 29)"]
          ] as const
        ) {
          yield* step(() => page.emulateMedia({ colorScheme }))
          assert.strictEqual(yield* style("body", "background-color"), ground)
          assert.strictEqual(yield* style(".sp-tag[data-state=me]", "background-color"), chosen)
        }
        assert.match(yield* style(".greenhouse", "font-family"), /^Georgia/)
        assert.match(yield* style("#devices .sp-b", "font-family"), /^Georgia/)

        // What happens elsewhere shows at once, and what is done here happens on the server.
        yield* bootstrap.issue({ issuedBy: "operator", scopes: ["runs:read"], label: "the gardener" })
        yield* step(() => page.locator("#links li", { hasText: "the gardener" }).waitFor())
        assert.notInclude(yield* step(() => page.innerText("#links")), "No link is open")
        yield* axe(page, "host")
        yield* step(() => page.getByRole("button", { name: "Withdraw the link “the gardener”" }).click())
        yield* step(() => page.locator("#links li").waitFor({ state: "detached" }))
        assert.deepStrictEqual(yield* bootstrap.list(), [])

        yield* step(() => page.getByRole("button", { name: "Sign out", exact: true }).click())
        yield* heading("This device was signed out")
        assert.notInclude(yield* step(() => page.innerText("body")), "tomatoes")
        assert.deepStrictEqual(yield* sessions.list(), [])
        assert.deepStrictEqual(problems, [])
      })
  )
})
