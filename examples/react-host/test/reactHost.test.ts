import { assert, describe, it } from "@effect/vitest"
import { BootstrapCredentialService } from "@sallyport/core"
import { TestClient } from "@sallyport/testing/host"
import { Effect, Layer, Redacted } from "effect"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "vite"
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
      pairingUrl: TestClient.pairingUrl(),
      url: TestClient.serverUrl
    }),
    context
  )
})

describe("a React application of a host", () => {
  it.live("WEB-03: shows the components in its own colours, to a browser that the library's page has paired, live", () =>
    Effect.gen(function*() {
      const { bootstrap, pairingUrl, url } = yield* opened
      const chromium = yield* Browser.browser
      const page = yield* Effect.flatMap(Browser.profile(chromium), (context) => step(() => context.newPage()))
      const problems: Array<string> = []
      page.on("pageerror", (error) => problems.push(String(error)))

      yield* step(() => page.goto(url))
      yield* step(() => page.getByRole("heading", { name: /not paired/ }).waitFor())
      yield* step(() => page.goto(Redacted.value(pairingUrl)))
      yield* step(() => page.getByRole("button", { name: "Pair this browser" }).click())
      yield* step(() => page.waitForURL(`${url}/`))
      yield* step(() => page.getByRole("heading", { name: "Greenhouse" }).waitFor())
      const signOut = page.getByRole("button", { name: "Sign out" })
      yield* step(() => signOut.waitFor())
      const style = (of: string) =>
        step(() =>
          page.locator(of).first().evaluate((element, wanted) => {
            const { backgroundColor, fontFamily } = getComputedStyle(element)
            return wanted === "body" ? backgroundColor : fontFamily
          }, of)
        )
      assert.strictEqual(yield* style("body"), "rgb(244, 247, 239)")
      assert.match(yield* style(".greenhouse"), /Georgia/)

      yield* bootstrap.issue({ issuedBy: "operator", scopes: ["runs:read"], label: "the gardener" })
      yield* step(() => page.getByText("the gardener").waitFor())
      assert.deepStrictEqual(problems, [])
    }))
})
