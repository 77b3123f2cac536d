import { assert, describe, it } from "@effect/vitest"
import type { RunProgramRequest } from "@sallyport/http/RunProgram"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Browser from "../../../test-support/browser.ts"
import * as Pages from "./pages.ts"
import { eventually, network, start } from "./support.ts"

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
          yield* eventually(() => wire.cuts() > before)
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

  it.live(
    "L-85: goes on at once when the browser is online again, shows the page again, or restores it",
    () =>
      Effect.gen(function*() {
        const steps = yield* Queue.unbounded<number>()
        const server = yield* start({
          program: ({ run }: RunProgramRequest) =>
            Effect.gen(function*() {
              for (let n = 0; n < 5; n++) yield* run.append(yield* Queue.take(steps))
            }),
          routes: Pages.layer("programs/page")
        })
        const wire = yield* network(server.port)
        const context = yield* Browser.profile(yield* Browser.browser)
        const page = yield* step(() => context.newPage())
        let requests = 0
        page.on("request", (request) => {
          if (request.url().endsWith("/events")) requests++
        })
        const sees = (last: string) =>
          step(() =>
            page.waitForFunction(
              `JSON.parse(document.body?.dataset.seen ?? "[]").at(-1) === ${last}`,
              undefined,
              { polling: 50 }
            )
          )
        const code = Redacted.value(yield* server.code())
        yield* step(() => page.goto(`${wire.url}/waiting#token=${encodeURIComponent(code)}`))
        yield* Queue.offer(steps, 1)
        yield* sees("1")

        // An open connection is replaced: the browser does not say that it is dead.
        yield* Effect.sleep("1 second")
        yield* step(() => context.setOffline(true))
        yield* step(() => context.setOffline(false))
        yield* eventually(() => requests === 2)
        yield* Queue.offer(steps, 2)
        yield* sees("2")

        // The page waits for minutes unless the browser tells it something.
        const returning = [
          step(() => context.setOffline(true).then(() => context.setOffline(false))),
          step(() => page.evaluate(`document.dispatchEvent(new Event("visibilitychange"))`)),
          step(() => page.evaluate(`dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))`))
        ]
        for (const [index, returns] of returning.entries()) {
          wire.lead(1)
          wire.cutAll()
          yield* Queue.offer(steps, index + 3)
          yield* Effect.sleep("1500 millis")
          wire.lead(server.port)
          const before = requests
          yield* Effect.sleep("500 millis")
          assert.strictEqual(requests, before)
          yield* returns
          yield* sees(index === 2 ? `"succeeded"` : String(index + 3))
        }
      }),
    300_000
  )
})
