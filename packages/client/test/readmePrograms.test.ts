import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Redacted from "effect/Redacted"
import * as NFS from "node:fs"
import { eventually } from "../../../test-support/programs.ts"
import * as Browser from "../../../test-support/browser.ts"
import { type Driver, suite } from "../../../test-support/readmes.ts"
import * as World from "./connectSupport.ts"
import * as Pages from "./pages.ts"
import { start } from "./support.ts"

const { step } = Browser

/** Opens a page, and collects what it says on its console and what fails in it. */
const open = Effect.fnUntraced(function*(url: string) {
  const context = yield* Browser.profile(yield* Browser.browser)
  const page = yield* step(() => context.newPage())
  let said = ""
  const problems: Array<string> = []
  page.on("console", (message) => said += `${message.text()}\n`)
  page.on("pageerror", (error) => problems.push(String(error)))
  yield* step(() => page.goto(url))
  /** Waits until the page has said something, or has failed. */
  const says = (pattern: RegExp) =>
    eventually(Effect.sync(() => pattern.exec(said)), (found) => found !== null || problems.length > 0).pipe(
      Effect.tap(() => Effect.sync(() => assert.deepStrictEqual(problems, []))),
      Effect.map((found) => found?.[1] ?? "")
    )
  return { page, says }
})

const pairsAndRuns: Driver = Effect.fnUntraced(function*(program) {
  const inputs: Array<unknown> = []
  const server = yield* start({
    program: ({ input, run }) => {
      inputs.push(input)
      return run.append(input)
    },
    routes: Pages.layerFile(program.file)
  })
  const { says } = yield* open(`${server.url}/#token=${Redacted.value(yield* server.code())}`)
  yield* says(/succeeded/)
  assert.lengthOf(inputs, 1)
})

const connects: Driver = Effect.fnUntraced(function*(program) {
  const site = yield* start({ routes: Pages.layerFile(program.file) })
  const world = yield* World.start({
    routes: HttpRouter.cors({ allowedOrigins: [site.url], exposedHeaders: ["dpop-nonce", "retry-after"] })
  })
  const code = Redacted.value(yield* world.code)
  let text = NFS.readFileSync(program.file, "utf8")
  for (
    const [printed, actual] of [
      ["https://relay.example", world.relay.url],
      ["a code of the relay", code],
      ["the environment's id", world.environmentId]
    ] as const
  ) {
    assert.include(text, printed)
    text = text.replace(printed, actual)
  }
  NFS.writeFileSync(program.file, text)
  const { page, says } = yield* open(site.url)
  const verificationCode = yield* says(/Approve (\S+)/)
  const [client] = yield* world.clients.list()
  assert.strictEqual(client?.verificationCode, verificationCode)
  const answered = page.waitForResponse((response) =>
    response.url() === `${world.environmentUrl}/api/auth/sessions` && response.request().method() === "GET"
  )
  yield* world.clients.decide({ client: client?.proofKeyThumbprint ?? "", decision: "approved", by: "operator" })
  assert.strictEqual((yield* step(() => answered)).status(), 200)
})

suite("packages/client/README.md", pairsAndRuns, connects)
