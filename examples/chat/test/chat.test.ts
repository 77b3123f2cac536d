import { assert, describe, it } from "@effect/vitest"
import { TestClient } from "@sallyport/testing/host"
import { Effect, Layer, Redacted } from "effect"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "vite"
import * as Browser from "../../../test-support/browser.ts"
import * as Model from "../src/Model.ts"
import * as Server from "../src/Server.ts"

const { step } = Browser
const root = fileURLToPath(new URL("..", import.meta.url))

/** Makes a model that says as many words as it is given. */
const gated = () => {
  let words = 0
  let calls = 0
  const waiting: Array<() => void> = []
  const model = Model.make(() => {
    calls++
    if (words === 0) return new Promise((resolve) => waiting.push(resolve))
    words--
    return Promise.resolve()
  })
  const give = (n: number) => {
    const resumed = waiting.splice(0, n)
    words += n - resumed.length
    for (const resume of resumed) resume()
  }
  return { calls: () => calls, give, model }
}

const opened = Effect.gen(function*() {
  const files = yield* Effect.acquireRelease(
    Effect.sync(() => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-chat-"))),
    (directory) => Effect.sync(() => NFS.rmSync(directory, { recursive: true }))
  )
  yield* step(() => build({ root, configFile: `${root}/vite.config.ts`, build: { outDir: files } }))
  const { calls, give, model } = gated()
  const context = yield* Layer.build(Server.layer({ files, model, port: 0 }))
  const reached = yield* Effect.provide(
    Effect.all({ pairingUrl: TestClient.pairingUrl(), url: TestClient.serverUrl }),
    context
  )
  return { calls, give, ...reached }
})

describe("a chat by the AI SDK's own hooks", () => {
  it.live("L-83 RUN-07 RUN-12: an answer goes on over a reload and without a page, once; Stop stops it", () =>
    Effect.gen(function*() {
      const { calls, give, pairingUrl, url } = yield* opened
      const chromium = yield* Browser.browser
      const context = yield* Browser.profile(chromium)
      const page = yield* step(() => context.newPage())
      const problems: Array<string> = []
      page.on("pageerror", (error) => problems.push(String(error)))
      yield* step(() => page.goto(Redacted.value(pairingUrl)))
      yield* step(() => page.getByRole("button", { name: "Pair this browser" }).click())
      yield* step(() => page.waitForURL(`${url}/`))

      const ask = (question: string) =>
        step(async () => {
          await page.getByLabel("Message").fill(question)
          await page.getByRole("button", { name: "Send" }).click()
        })
      const shows = (text: string) => step(() => page.locator("li[data-role=assistant]", { hasText: text }).waitFor())
      const words = Model.wordsOf("Where to")
      yield* ask("Where to")
      give(6)
      yield* shows(words.slice(0, 6).join("").trim())
      yield* step(() => page.reload())
      yield* shows(words.slice(0, 6).join("").trim())
      give(3)
      yield* shows(words.slice(0, 9).join("").trim())
      // Without any page.
      yield* step(() => page.goto("about:blank"))
      give(words.length - 9)
      yield* step(() => page.goto(url))
      yield* shows(words.join(""))
      yield* step(() => page.getByRole("button", { name: "Send" }).waitFor())
      assert.strictEqual(calls(), words.length)
      assert.strictEqual(yield* step(() => page.locator("li").count()), 2)

      yield* ask("And back")
      give(4)
      const said = Model.wordsOf("And back").slice(0, 4).join("").trim()
      yield* shows(said)
      yield* step(() => page.getByRole("button", { name: "Stop" }).click())
      yield* step(() => page.getByRole("button", { name: "Send" }).waitFor())
      const answer = step(() => page.locator("li[data-role=assistant]").last().textContent())
      give(100)
      yield* step(() => page.reload())
      yield* shows(said)
      yield* step(() => page.getByRole("button", { name: "Send" }).waitFor())
      assert.strictEqual((yield* answer)?.trim(), said)
      assert.deepStrictEqual(problems, [])
    }))
})
