import { assert, describe, it } from "@effect/vitest"
import type { RunProgramRequest } from "@sallyport/http/RunProgram"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Browser from "../../../test-support/browser.ts"
import { eventually } from "../../../test-support/programs.ts"
import * as Pages from "./pages.ts"
import { network, start } from "./support.ts"

const { step } = Browser

describe("a page", () => {
  it.live(
    "L-14 L-70: pairs, starts one run, and follows it through cuts of its network and a reload",
    () =>
      Effect.gen(function*() {
        let executed = 0
        const cut = yield* Deferred.make<void>()
        const program = ({ input, run }: RunProgramRequest) =>
          Effect.gen(function*() {
            executed++
            for (let n = 1; n <= Number(input); n++) {
              yield* run.append(n)
              // Its network is cut twice before the end.
              yield* n === 20 ? Deferred.await(cut) : Effect.sleep("50 millis")
            }
          })
        const server = yield* start({ program, routes: Pages.layer("programs/page") })
        let offline = false
        const wire = yield* network(server.port, () => ({ refused: offline }))
        const context = yield* Browser.profile(yield* Browser.browser)
        const page = yield* step(() => context.newPage())
        const problems: Array<string> = []
        page.on("pageerror", (error) => problems.push(String(error)))
        const until = (expression: string) => step(() => page.waitForFunction(expression, undefined, { polling: 50 }))
        const seen = step(() => page.evaluate((): unknown => JSON.parse(document.body.dataset.seen ?? "[]")))

        const code = Redacted.value(yield* server.code())
        yield* step(() => page.goto(`${wire.url}/#token=${encodeURIComponent(code)}`))
        const last = `JSON.parse(document.body?.dataset.seen ?? "[]").at(-1)`
        for (const number of [5, 12]) {
          yield* until(`${last} >= ${number}`)
          offline = true
          const before = wire.cuts()
          wire.cutAll()
          yield* eventually(Effect.sync(wire.cuts), (cuts) => cuts > before)
          offline = false
        }
        yield* Deferred.succeed(cut, undefined)
        yield* until(`${last} === "succeeded"`)
        const numbers = Array.from({ length: 40 }, (_, index) => index + 1)
        assert.deepStrictEqual(yield* seen, [[false, true], ...numbers, "succeeded"])

        // The page that is loaded again has its session, and joins the run that it started.
        yield* step(() => page.reload())
        yield* until(`${last} === "succeeded"`)
        assert.deepStrictEqual(yield* seen, [[true, true], ...numbers, "succeeded"])
        assert.strictEqual(executed, 1)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
