import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import * as Browser from "../../../test-support/browser.ts"
import { connect, having, network, start } from "../../client/test/support.ts"
import { axe, bundle, pageRoutes, postsOf, problemsOf, refuse, signIn, text } from "./support.ts"

const { step } = Browser

const total = 30

/** Starts a server whose run takes a step whenever the test says so, and a browser that is signed in. */
const opened = Effect.gen(function*() {
  const steps = yield* Queue.unbounded<"step" | "fail">()
  const server = yield* start({
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

describe("runs in a browser", () => {
  it.live(
    "RUN-23 RUN-08 FEED-01: six runs and the devices on one page share two connections, also after both were lost",
    () =>
      Effect.gen(function*() {
        const { begin, go, owner, page, problems, server, wire } = yield* opened
        const open = new Map<unknown, string>()
        page.on("request", (request) => {
          const { pathname } = new URL(request.url())
          if (/\/(?:events|access)$/.test(pathname)) open.set(request, pathname)
        })
        page.on("requestfinished", (request) => open.delete(request))
        page.on("requestfailed", (request) => open.delete(request))
        const arePresent = Effect.repeat(Effect.sync(() => Array.from(open.values()).toSorted().join(" ")), {
          until: (paths) => paths === "/api/auth/access /api/runs/events",
          schedule: Schedule.spaced("20 millis")
        })
        const runs = yield* Effect.all(Array.from({ length: 6 }, () => begin))
        const steps = (count: number) =>
          Effect.repeat(Effect.orDie(Effect.forEach(runs, ({ runId }) => owner.runs.get(runId))), {
            until: (all) => all.reduce((sum, { lastSeq }) => sum + lastSeq, 0) === count,
            schedule: Schedule.spaced("20 millis")
          })
        yield* go(24)
        yield* steps(24)
        yield* step(() => page.goto(`${wire.url}/many?${runs.map(({ runId }) => `run=${runId}`).join("&")}`))
        yield* text(page, /(?:Running\. You are following it live\.[^]*){6}Chromium/)
        yield* arePresent
        yield* go(12)
        yield* step(() =>
          page.waitForFunction(
            () => document.querySelectorAll(".sp-steps [data-state=live]").length === 12,
            undefined,
            {
              polling: 50
            }
          )
        )
        yield* arePresent
        wire.lead(1)
        wire.cutAll()
        yield* text(page, /(?:The connection is lost\.[^]*){6}/)
        yield* go(6)
        wire.lead(server.port)
        yield* text(page, /(?:Running\. You are following it live\.[^]*){6}/)
        yield* arePresent
        yield* go(6 * total - 42)
        yield* text(page, /(?:The run is done\. 30 of 30, none lost and none twice\.[^]*){6}/)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
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
        assert.deepInclude(yield* Effect.orDie(owner.runs.get(runId)), { status: "aborted" })
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
        yield* text(page, /^The run was stopped\.$/m)
        yield* step(() => page.goto(`${wire.url}/running?run=${crypto.randomUUID()}`))
        yield* text(page, /It is gone already\./)

        const running = yield* begin
        yield* step(() => page.goto(`${wire.url}/connections`))
        yield* step(() => page.locator("#runs li").nth(3).waitFor())
        const listed = step(() => page.locator("#runs li > div:first-of-type").allInnerTexts())
        const rows = Effect.map(listed, (rows) =>
          rows.map((row) =>
            row.split("\n").filter((line) =>
              line !== "" && !/^(?:started |ended |[\da-f]{8}-)/.test(line)
            )
          ))
        assert.deepStrictEqual(yield* rows, [
          [running.threadId, "Running", "0 events"],
          [stopped.threadId, "Stopped", "1 event"],
          [failed.threadId, "Failed", "1 event", "Its program failed."],
          [done.threadId, "Done", "31 events"]
        ])
        yield* step(() => page.getByRole("button", { name: `Open the run of ${running.threadId}` }).click())
        yield* text(page, /You are following it live\./)
        yield* axe(page, "runs")
        // A refusal is told, and the run can be stopped again.
        const stop = page.getByRole("button", { name: `Stop the run of ${running.threadId}` })
        yield* step(() => page.route("**/abort", refuse(403, { _tag: "Forbidden", code: "scope_required" })))
        yield* step(() => stop.click())
        yield* text(page, /Your session may not do this\./)
        yield* step(() => page.waitForSelector("#runs button[aria-label^=Stop][aria-disabled=false]"))
        yield* step(() => page.unroute("**/abort"))
        yield* step(() => stop.dblclick())
        yield* text(page, /The run was stopped\./)
        yield* step(() => page.waitForSelector("#runs .sp-tag[data-state=me]", { state: "detached" }))
        assert.deepStrictEqual((yield* rows)[0], [running.threadId, "Stopped", "1 event"])
        assert.deepInclude(yield* Effect.orDie(owner.runs.get(running.runId)), { status: "aborted" })
        assert.strictEqual(
          yield* step(() => page.getByRole("button", { name: /^Stop the run of/ }).count()),
          0,
          "what is over cannot be stopped"
        )
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "RUN-22: says that a run waits for its turn until it has it, and lists each run once while newer ones begin",
    () =>
      Effect.gen(function*() {
        const { begin, go, owner, page, problems, steps, wire } = yield* opened
        const ended = yield* Effect.forEach([1, 2, 3], () =>
          Effect.tap(begin, ({ runId }) => Effect.orDie(owner.runs.abort(runId))))
        // The server lists two runs a page.
        yield* step(() =>
          page.route(/\/api\/runs(?:\?.*)?$/, async (route) => {
            const response = await route.fetch({ url: `${wire.url}/api/runs` })
            const { runs }: { readonly runs: ReadonlyArray<{ readonly runId: string }> } = await response.json()
            const after = new URL(route.request().url()).searchParams.get("after")
            const from = runs.findIndex(({ runId }) =>
              runId === after
            ) + 1
            const shown = runs.slice(from, from + 2)
            await route.fulfill({
              response,
              json: { runs: shown, next: from + 2 < runs.length ? shown.at(-1)?.runId : null }
            })
          })
        )
        yield* step(() => page.goto(`${wire.url}/connections`))
        const names = step(() => page.locator("#runs .sp-name > span:first-child").allInnerTexts())
        const listed = (runs: ReadonlyArray<{ readonly threadId: string }>) =>
          Effect.repeat(names, {
            until: (names) => names.length === runs.length,
            schedule: Schedule.spaced("20 millis")
          }).pipe(Effect.map((names) => assert.deepStrictEqual(names, runs.map(({ threadId }) => threadId))))
        yield* listed(ended.slice(1).toReversed())
        yield* step(() => page.getByRole("button", { name: "Show older runs" }).click())
        yield* listed(ended.toReversed())
        const first = yield* begin
        yield* listed([first, ...ended.toReversed()])

        const { threadId } = first
        const second = yield* Effect.orDie(
          Effect.flatMap(owner.runs.intent({ threadId, input: 0, whenBusy: "enqueue" }), owner.runs.start)
        )
        yield* listed([second, first, ...ended.toReversed()])
        yield* step(() => page.goto(`${wire.url}/running?run=${second.runId}`))
        yield* text(page, /^Waiting for its turn\.$/m)
        yield* axe(page, "run-queued")
        yield* Queue.offer(steps, "fail")
        // It has not told anything yet.
        yield* text(page, /Running\. You are following it live\./)
        yield* go(total)
        yield* text(page, /The run is done\. 30 of 30, none lost and none twice\./)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )

  it.live(
    "RUN-20 L-37: asks what a run asks, takes one answer by the keyboard, and tells one that came from elsewhere",
    () =>
      Effect.gen(function*() {
        const server = yield* start({
          routes: pageRoutes(yield* bundle),
          program: ({ run }) =>
            Effect.all([
              run.ask("deploy", { text: "Deploy to production?", choices: [true, false, "Later"] }),
              run.ask("version", "Which version?"),
              run.ask("odd", { of: "another form" }),
              run.ask("colour", { choices: ["red", "blue"] }),
              run.ask("go on?", null)
            ])
        })
        const owner = yield* connect(server.url, having(yield* server.token()))
        const page = yield* Effect.flatMap(
          Effect.flatMap(Browser.browser, Browser.profile),
          (context) => step(() => context.newPage())
        )
        const problems = problemsOf(page)
        const posts = postsOf(page)
        const press = (key: string) => step(() => page.keyboard.press(key))
        const focused = step(() => page.evaluate(() => document.activeElement?.textContent ?? ""))
        /** Goes by the keyboard to what takes input now. */
        const goTo = (text: string) =>
          Effect.repeat(Effect.andThen(press("Tab"), focused), { until: (shown) => shown === text, times: 60 })
        const ready = step(() => page.waitForSelector(".sp-question button[aria-disabled=false]"))
        const elsewhere = (name: string, value: Schema.Json) => Effect.orDie(owner.runs.answer(runId, { name, value }))
        yield* signIn(page, server.url, Redacted.value(yield* server.code()))
        const intent = yield* owner.runs.intent({ threadId: "a question", input: 0 })
        const { runId } = yield* Effect.orDie(owner.runs.start(intent))

        // The list says that it waits, and is where it is answered.
        yield* step(() => page.goto(`${server.url}/connections`))
        yield* text(page, /a question[^]*Waiting for an answer/)
        yield* step(() => page.getByRole("button", { name: "Answer the run of a question" }).press("Enter"))
        yield* text(page, /Waiting for an answer\.[^]*Deploy to production\?[^]*Yes[^]*No[^]*Later/)
        yield* axe(page, "run-asks")
        yield* ready
        posts.length = 0
        yield* step(() => page.getByRole("button", { name: "Yes" }).focus())
        for (let time = 0; time < 3; time++) yield* press("Enter")
        yield* text(page, /Deploy to production\?\s+You answered: Yes/)
        assert.deepStrictEqual(posts, [`/api/runs/${runId}/answers`])
        assert.strictEqual(yield* focused, "a question")

        // A page that comes later is told what was answered; it does not know by whom.
        yield* step(() => page.goto(`${server.url}/running?run=${runId}`))
        yield* text(page, /Answered elsewhere: Yes[^]*Which version\?/)
        assert.notMatch(yield* step(() => page.innerText("body")), /Running/)
        yield* step(() => page.getByLabel("Your answer").focus())
        yield* press("Enter")
        yield* step(() => page.keyboard.type("4.1 <b>"))
        yield* ready
        for (let time = 0; time < 2; time++) yield* press("Enter")
        yield* text(page, /Which version\?\s+You answered: 4\.1 <b>/)
        assert.strictEqual(yield* focused, "A run to try")
        yield* text(page, /\{"of":"another form"\}/)
        yield* elsewhere("odd", [1, null])
        yield* text(page, /Answered elsewhere: \[1,null\]/)

        // Of two answers the first counts, and it is the other one.
        yield* step(() =>
          page.route("**/answers", async (route) => {
            await Effect.runPromise(elsewhere("colour", "blue"))
            await route.continue()
          })
        )
        yield* text(page, /colour\s+red\s+blue/)
        yield* ready
        yield* goTo("red")
        yield* press("Space")
        yield* text(page, /colour\s+Answered elsewhere: blue/)
        yield* step(() => page.unroute("**/answers"))
        yield* axe(page, "run-answered")

        yield* text(page, /go on\?\s+Your answer/)
        yield* Effect.orDie(owner.runs.abort(runId))
        yield* text(page, /The run was stopped\./)
        assert.strictEqual(yield* step(() => page.locator(".sp-question").count()), 0)
        assert.deepStrictEqual(problems, [])
      }),
    300_000
  )
})
