import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Browser from "../../../test-support/browser.ts"
import { connect, having, network, start } from "../../client/test/support.ts"
import { axe, bundle, pageRoutes, postsOf, problemsOf, signIn, text } from "./support.ts"

const { step } = Browser

const total = 30

/** Starts a server whose run takes a step whenever the test says so, and a browser that is signed in. */
const opened = Effect.gen(function*() {
  const steps = yield* Queue.unbounded<"step" | "fail">()
  const server = yield* start({
    pages: false,
    routes: pageRoutes(yield* bundle),
    program: ({ run }) =>
      Effect.gen(function*() {
        for (let done = 1; done <= total; done++) {
          if ((yield* Queue.take(steps)) === "fail") return yield* Effect.fail("no")
          yield* run.append({ progress: { done, total } })
        }
      })
  })
  const wire = yield* network(server.port)
  const owner = yield* connect(server.url, having(yield* server.token()))
  const chromium = yield* Browser.browser
  const page = yield* Effect.flatMap(Browser.profile(chromium), (context) => step(() => context.newPage()))
  const problems = problemsOf(page)
  const posts = postsOf(page)
  const begin = Effect.gen(function*() {
    const intent = yield* owner.runs.intent({ threadId: `thread ${crypto.randomUUID()}`, input: 0 })
    return yield* owner.runs.start(intent)
  }).pipe(Effect.orDie)
  const go = (count: number) => Queue.offerAll(steps, Array.from({ length: count }, () => "step" as const))
  /** Waits until the page shows so many steps as seen live, and so many as caught up. */
  const shows = (live: number, caught: number) =>
    step(() =>
      page.waitForFunction(
        ([live, caught]) =>
          document.querySelectorAll(".sp-steps [data-state=live]").length === live &&
          document.querySelectorAll(".sp-steps [data-state=caught]").length === caught,
        [live, caught] as const,
        { polling: 50 }
      )
    )
  yield* signIn(page, wire.url, Redacted.value(yield* server.code()))
  return { server, wire, owner, page, problems, posts, steps, begin, go, shows }
})

describe("a run in a browser", () => {
  it.live(
    "RUN-08 L-37: tells what was seen live from what was caught up with, over a lost connection, and stops once, busy to the end",
    () =>
      Effect.gen(function*() {
        const { begin, go, owner, page, posts, problems, server, shows, wire } = yield* opened
        yield* step(() => page.goto(`${wire.url}/running`))
        yield* text(page, /Nothing is running\./)
        yield* axe(page, "run-idle")

        const { runId } = yield* begin
        yield* go(6)
        yield* Effect.repeat(Effect.orDie(owner.runs.get(runId)), { until: ({ lastSeq }) => lastSeq === 6 })
        yield* step(() => page.goto(`${wire.url}/running?run=${runId}`))
        yield* text(page, /Running\. You are following it live\./)
        yield* shows(0, 6)
        yield* go(4)
        yield* shows(4, 6)
        assert.deepStrictEqual(
          yield* step(() => page.locator("progress").evaluate((bar: HTMLProgressElement) => [bar.value, bar.max])),
          [10, total]
        )
        yield* axe(page, "run-live")

        wire.lead(1)
        wire.cutAll()
        yield* go(3)
        yield* text(page, /The connection is lost\. The run goes on without you\. Trying again…/)
        yield* axe(page, "run-lost")
        wire.lead(server.port)
        yield* text(page, /Running\. You are following it live\./)
        yield* shows(4, 9)
        yield* go(2)
        yield* shows(6, 9)

        posts.length = 0
        yield* step(() =>
          page.evaluate(() => {
            const button = document.querySelector<HTMLButtonElement>(".sp-run button")
            for (let click = 0; click < 4; click++) button?.click()
          })
        )
        yield* text(page, /The run was stopped by you\./)
        // One request, however often it was clicked: the button is busy until the run has ended.
        assert.deepStrictEqual(posts, [`/api/runs/${runId}/abort`])
        assert.strictEqual(yield* step(() => page.getByRole("button", { name: "Stop" }).count()), 0)
        yield* axe(page, "run-stopped")
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "RUN-07: says how a run ended: done, failed, or stopped elsewhere; and lists all of them",
    () =>
      Effect.gen(function*() {
        const { begin, go, owner, page, problems, steps, wire } = yield* opened
        const done = yield* begin
        yield* step(() => page.goto(`${wire.url}/running?run=${done.runId}`))
        yield* go(total)
        yield* text(page, /The run is done\. 30 of 30, none lost and none twice\./)
        yield* axe(page, "run-done")
        const failed = yield* begin
        yield* Queue.offer(steps, "fail")
        yield* step(() => page.goto(`${wire.url}/running?run=${failed.runId}`))
        yield* text(page, /The run failed\.[^]*Start it again\./)
        const stopped = yield* begin
        yield* step(() => page.goto(`${wire.url}/running?run=${stopped.runId}`))
        yield* text(page, /Running\./)
        yield* Effect.orDie(owner.runs.abort(stopped.runId))
        yield* text(page, /The run was stopped\.(?! by you)/)
        yield* step(() => page.goto(`${wire.url}/running?run=${crypto.randomUUID()}`))
        yield* text(page, /It is gone already\./)

        const running = yield* begin
        yield* step(() => page.goto(`${wire.url}/connections`))
        yield* text(page, /Runs[^]*Running[^]*Stopped[^]*Failed[^]*Done[^]*30 events|31 events/)
        yield* step(() => page.getByRole("button", { name: `Open the run of ${running.threadId}` }).click())
        yield* text(page, /You are following it live\./)
        yield* axe(page, "runs")
        yield* step(() => page.getByRole("button", { name: `Stop the run of ${running.threadId}` }).dblclick())
        yield* text(page, /The run was stopped\./)
        yield* step(() => page.waitForSelector("#runs .sp-tag[data-state=me]", { state: "detached" }))
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
