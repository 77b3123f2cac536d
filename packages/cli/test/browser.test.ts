import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NPath from "node:path"
import type { Page } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import * as Network from "../../../test-support/network.ts"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"
import { click, open, pair, signedIn, text } from "./pages.ts"

const { step } = Browser

/** How many events the page has shown: the steps of the run that are done. */
const shown = (page: Page) => step(() => page.locator(".sp-steps i:not([data-state=none])").count())

/** Waits until the page has shown so many events. */
const seen = (page: Page, count: number) =>
  step(() =>
    page.waitForFunction(
      (count) => document.querySelectorAll(".sp-steps i:not([data-state=none])").length >= count,
      count,
      { polling: 50 }
    )
  )

const caughtUp = (page: Page) => step(() => page.locator(".sp-steps i[data-state=caught]").count())

/** Sends a request with the page's own session. */
const ask = <A>(page: Page, method: string, path: string, payload?: object) =>
  step(async (): Promise<A> => {
    const answer: string = await page.evaluate(async ([method, path, body]) => {
      const response = await fetch(path, {
        method,
        ...(body === undefined ? {} : { body, headers: { "content-type": "application/json" } })
      })
      return response.text()
    }, [method, path, payload === undefined ? undefined : JSON.stringify(payload)] as const)
    return JSON.parse(answer)
  })

/** Lists the runs that the server has, the newest first. */
const runsOf = (server: Sallyport.Server, token: string) =>
  Effect.map(
    Sallyport.get(server, "/api/runs", token),
    (answer) => answer.json<{ readonly runs: ReadonlyArray<Sallyport.RunView> }>().runs
  )

const sessionsOf = (server: Sallyport.Server, token: string) =>
  Effect.map(
    Sallyport.get(server, "/api/auth/sessions", token),
    (answer) =>
      answer.json<{ readonly sessions: ReadonlyArray<{ readonly id: string; readonly current: boolean }> }>().sessions
  )

const issueCode = (page: Page) =>
  Effect.map(
    ask<{ readonly code: string }>(page, "POST", "/api/auth/pairing-links", { label: "another" }),
    ({ code }) => code
  )

/** Keeps a picture of the page, if a directory for pictures is given. */
const picture = (page: Page, name: string) =>
  step(async () => {
    const directory = process.env.SALLYPORT_SCREENSHOTS
    if (directory === undefined) return
    for (const colorScheme of ["dark", "light"] as const) {
      await page.emulateMedia({ colorScheme })
      await page.screenshot({ path: NPath.join(directory, `${name}-${colorScheme}.png`) })
    }
  })

// Two of them wait for half a minute: for a lease to run out, and for a connection that is cut.
describe("a browser", { concurrent: true }, () => {
  it.live(
    "L-14 RUN-08: pairs over /pair, follows a run, loses its connection, and catches up without a gap or a repeat",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serve(yield* Sallyport.freshState)
        const network = yield* Network.network(server)
        const chromium = yield* Browser.browser
        const context = yield* Browser.profile(chromium)
        const { page, problems } = yield* open(context)

        // It was at the start page before, and is signed in there after pairing: nothing keeps the old answer.
        yield* step(() => page.goto(network.url))
        yield* text(page, /^This browser is not paired$/m)
        yield* pair(page, server.pairingUrl.replace(server.url, network.url))
        assert.strictEqual(page.url(), `${network.url}/`)

        const devtools = yield* step(() => context.newCDPSession(page))
        const history = yield* step(() => devtools.send("Page.getNavigationHistory"))
        for (const { url, userTypedURL } of history.entries) {
          assert.notInclude(url, server.code)
          assert.notInclude(userTypedURL, server.code)
        }
        const [cookie, ...others] = yield* step(() => context.cookies())
        assert.lengthOf(others, 0)
        assert.isTrue(cookie?.httpOnly)
        assert.strictEqual(cookie?.sameSite, "Lax")
        assert.strictEqual(cookie?.path, "/")
        assert.strictEqual(cookie?.name, `sallyport_session_${new URL(network.url).port}`)
        assert.strictEqual(yield* step(() => page.evaluate(() => document.cookie)), "")

        // A separate client, which sees the server's state while the page is cut off.
        const token = yield* Sallyport.pair(server, yield* issueCode(page))

        yield* click(page, "Count to 30")
        yield* seen(page, 2)
        assert.strictEqual(yield* step(() => page.getByRole("button", { name: "Count" }).count()), 0)
        yield* picture(page, "running")
        const { run } = (yield* Sallyport.get(server, "/api/threads/demonstration/active-run", token)).json<
          { readonly run: Sallyport.RunView }
        >()
        const look = Effect.map(
          Sallyport.get(server, `/api/runs/${run.runId}`, token),
          (answer) => answer.json<Sallyport.RunView>().lastSeq
        )

        // Twice: first the connection is cut, then the browser is also told that there is no network.
        for (const offline of [false, true]) {
          network.cut()
          if (offline) yield* step(() => context.setOffline(true))
          yield* text(page, /^The connection is lost\. The run goes on without you\./m)
          if (offline) yield* picture(page, "lost")
          const before = yield* shown(page)
          yield* Programs.eventually(look, (lastSeq) => lastSeq >= before + 3)
          assert.strictEqual(yield* shown(page), before, "nothing comes over a wire that is cut")
          const caught = yield* caughtUp(page)
          network.join(server)
          if (offline) yield* step(() => context.setOffline(false))
          yield* seen(page, before + 3)
          yield* text(page, /^Running\. You are following it live\.$/m)
          assert.isAtLeast(yield* caughtUp(page), caught + 3)
        }

        // A second page of this browser joins the run, from its first event, and so does one that is loaded again.
        const second = yield* open(context)
        yield* step(() => second.page.goto(network.url))
        yield* seen(second.page, 2)
        yield* step(() => second.page.reload())
        yield* seen(second.page, 2)
        // What went on before it looked is told from what it saw live.
        assert.isAtLeast(yield* caughtUp(second.page), 2)

        for (const each of [page, second.page]) {
          yield* text(each, /^The run is done\. 30 of 30, none lost and none twice\.$/m)
          assert.strictEqual(yield* shown(each), 30)
          assert.match(yield* step(() => each.innerText(".sp-big")), /^30\s*of 30$/)
          yield* step(() => each.getByRole("button", { name: "Count again" }).waitFor())
          assert.strictEqual(yield* step(() => each.getByRole("button", { name: "Stop" }).count()), 0)
          assert.notMatch(yield* step(() => each.innerText("body")), /^Running|connection is lost/m)
        }
        assert.deepStrictEqual(
          (yield* runsOf(server, token)).map(({ lastSeq, runId, status }) => ({ lastSeq, runId, status })),
          [{ lastSeq: 31, runId: run.runId, status: "succeeded" }],
          "both pages have followed one run"
        )
        // The end is shown once: the page does not connect again to a run that is over.
        const requests: Array<string> = []
        page.on("request", (request) => requests.push(new URL(request.url()).pathname))
        network.cut()
        network.join(server)
        yield* click(page, "Sign out here")
        yield* text(page, /^This device was signed out$/m)
        assert.isTrue(requests.includes("/api/auth/logout"))
        assert.isFalse(requests.some((path) => path.endsWith("/events")))
        assert.deepStrictEqual(yield* step(() => context.cookies()), [])
        assert.deepStrictEqual(
          (yield* sessionsOf(server, token)).map(({ current }) => current),
          [true],
          "the session has ended on the server too, and no other"
        )
        // Both pages drop what they showed.
        yield* text(second.page, /^This device was signed out$/m)
        for (const each of [page, second.page]) {
          assert.notMatch(yield* step(() => each.innerText("body")), /The run is done|You are in|Count again/)
        }
        yield* step(() => second.page.reload())
        yield* text(second.page, /^This browser is not paired$/m)
        yield* picture(second.page, "unpaired")
        assert.deepStrictEqual([...problems, ...second.problems], [])
      }),
    Programs.timeout
  )

  it.live(
    "L-15 L-37: shows a sentence for a wrong code, sends a code once however often it is submitted, and takes a right one",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serve(yield* Sallyport.freshState)
        const chromium = yield* Browser.browser
        const first = yield* open(yield* Browser.profile(chromium))
        yield* pair(first.page, server.pairingUrl)
        const right = yield* issueCode(first.page)

        const context = yield* Browser.profile(chromium)
        const { page, problems } = yield* open(context)
        const token = yield* Sallyport.pair(server, yield* issueCode(first.page))
        const before = (yield* sessionsOf(server, token)).length
        const sent: Array<string> = []
        page.on("request", (request) => {
          if (request.method() === "POST") sent.push(request.postData() ?? "")
        })
        yield* step(() => page.goto(`${server.url}/pair`))
        const field = page.getByLabel("Pairing code")
        yield* step(() => field.waitFor())
        yield* picture(page, "pair")
        const isFocused = step(() => field.evaluate((input) => document.activeElement === input))
        const told = page.locator("main [role=alert] strong")

        // One that was used up is sent once; one that was mistyped is not sent at all, and costs no attempt.
        const mistyped = right.slice(0, -1) + (right.endsWith("2") ? "3" : "2")
        for (
          const [wrong, sentence, requests] of [
            [server.code, "This code was used already.", 1],
            [mistyped, "This code has a typing error.", 0]
          ] as const
        ) {
          sent.length = 0
          yield* step(() => field.fill(wrong))
          yield* step(() => field.press("Enter"))
          yield* step(() => page.locator("main [role=alert]", { hasText: sentence }).waitFor())
          assert.deepStrictEqual(yield* step(() => told.allInnerTexts()), [sentence])
          assert.match(yield* step(() => page.innerText("main [role=alert]")), /^[A-Z][^{}"<>]+$/)
          assert.isTrue(yield* isFocused)
          assert.lengthOf(sent, requests)
          // What was typed stands there still, to be compared, and is marked if the page knows that it is wrong.
          assert.strictEqual(yield* step(() => field.inputValue()), wrong)
          assert.strictEqual(yield* step(() => field.getAttribute("aria-invalid")), String(requests === 0))
          assert.deepStrictEqual(yield* step(() => context.cookies()), [])
          yield* picture(page, "wrong")
        }

        // In lower case and without dashes, by four submissions in a row.
        sent.length = 0
        yield* step(() => field.fill(right.toLowerCase().replaceAll("-", "")))
        yield* step(() =>
          page.evaluate(() => {
            const form = document.querySelector("form")
            for (let click = 0; click < 4; click++) form?.requestSubmit()
          })
        )
        yield* click(page, "Pair this browser")
        yield* text(page, signedIn)
        assert.lengthOf(sent, 2)
        assert.lengthOf(yield* sessionsOf(server, token), before + 1)

        // An address that is opened on the page itself changes only the fragment.
        const again = yield* issueCode(page)
        const other = yield* open(yield* Browser.profile(chromium))
        yield* step(() => other.page.goto(`${server.url}/pair`))
        yield* step(() => other.page.getByLabel("Pairing code").waitFor())
        yield* pair(other.page, `${server.url}/pair#token=${again}`)
        assert.deepStrictEqual([...first.problems, ...problems, ...other.problems], [])
      }),
    Programs.timeout
  )

  it.live(
    "L-70 RUN-01: runs once what was started again because the answer was lost, and goes on after a proxy's error",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serve(yield* Sallyport.freshState)
        const chromium = yield* Browser.browser
        const { page, problems } = yield* open(yield* Browser.profile(chromium))
        let asked = 0
        // The page follows its runs from the moment in which it is let in.
        yield* step(() =>
          page.route(
            "**/api/runs/events*",
            (route) => asked++ === 0 ? route.fulfill({ status: 502, body: "bad gateway" }) : route.continue()
          )
        )
        yield* pair(page, server.pairingUrl)
        const token = yield* Sallyport.pair(server, yield* issueCode(page))

        const keys: Array<string | undefined> = []
        yield* step(async () => {
          // The server accepts the first start, and the page never learns that.
          await page.route("**/api/runs", async (route) => {
            if (route.request().method() !== "POST") return route.continue()
            keys.push(route.request().headers()["idempotency-key"])
            if (keys.length > 1) return route.continue()
            await route.fetch()
            await route.abort("connectionreset")
          })
        })
        yield* click(page, "Count to 30")
        yield* seen(page, 1)
        const active = ask<{ readonly run: Sallyport.RunView }>(page, "GET", "/api/threads/demonstration/active-run")
        const { run } = yield* active
        assert.strictEqual(run.status, "running")
        yield* seen(page, 3)
        assert.isAbove(asked, 1)
        assert.isAbove(keys.length, 1)
        assert.lengthOf(new Set(keys), 1)
        assert.deepStrictEqual((yield* runsOf(server, token)).map(({ runId }) => runId), [run.runId])
        // The page tells of nothing that went wrong, since nothing did.
        yield* text(page, /^Running\. You are following it live\.$/m)
        assert.strictEqual((yield* step(() => page.locator("main [role=alert]").allInnerTexts())).join(""), "")
        assert.deepStrictEqual(problems, [])
      }),
    Programs.timeout
  )

  it.live(
    "RUN-02 RUN-04 RUN-07 RUN-10 L-84: after SIGKILL and a new start every reader has every event, and is told once that the run is stale",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const killed = yield* Sallyport.serve(state)
        const network = yield* Network.network(killed)
        const chromium = yield* Browser.browser
        const context = yield* Browser.profile(chromium)
        const { page, problems } = yield* open(context)
        yield* pair(page, killed.pairingUrl.replace(killed.url, network.url))
        const token = yield* Sallyport.pair(killed, yield* issueCode(page))
        yield* click(page, "Count to 30")
        yield* seen(page, 2)

        const active = Effect.fnUntraced(function*(server: Sallyport.Server) {
          const answer = yield* Sallyport.get(server, "/api/threads/demonstration/active-run", token)
          return answer.json<{ readonly run: Sallyport.RunView }>().run
        })
        const { runId } = yield* active(killed)
        const reader = yield* Sallyport.follow(killed, token, runId)
        const acknowledged: Array<Sallyport.ServerSentEvent> = []
        while (acknowledged.length < 4) {
          const event = yield* reader.next
          if (event !== undefined) acknowledged.push(event)
        }
        assert.deepStrictEqual(yield* killed.stop("SIGKILL"), { code: null, signal: "SIGKILL" })
        acknowledged.push(...yield* reader.rest)
        assert.isTrue(reader.wasCut())
        network.cut()

        const server = yield* Sallyport.serve(state)
        network.join(server)
        assert.strictEqual((yield* active(server)).runId, runId)
        // The thread is taken until the run's lease is over: the process that executes it may still be alive.
        const early = yield* Sallyport.post(server, "/api/runs", token, { threadId: "demonstration", input: {} }, {
          "idempotency-key": "early"
        })
        const status = (yield* active(server)).status
        assert.strictEqual(early.status, 409, `${status}: ${early.text}`)

        const later = yield* Sallyport.follow(server, token, runId, acknowledged.at(-1)?.id ?? "")
        assert.strictEqual(later.status, 200)
        const missed = yield* later.rest
        const all = [...acknowledged, ...missed]
        const data = all.slice(0, -1)
        assert.deepStrictEqual(
          data,
          data.map((_, index) => ({
            id: String(index + 1),
            event: "data",
            data: { count: index + 1 }
          }))
        )
        const end = all.at(-1)
        assert.strictEqual(end?.event, "end")
        assert.strictEqual(end?.id, String(all.length))
        assert.include(end?.data, { status: "failed", reason: "stale_run" })

        const stale = /^Its server went away before the run was done\./m
        yield* text(page, stale)
        assert.strictEqual(yield* shown(page), data.length)
        yield* picture(page, "stale")

        // Read from the beginning it has the same events, and after its end there is nothing more.
        const replayed = yield* Sallyport.follow(server, token, runId)
        assert.deepStrictEqual(yield* replayed.rest, all)
        const after = yield* Sallyport.follow(server, token, runId, end?.id)
        assert.strictEqual(after.status, 204)

        const found = yield* active(server)
        assert.include(found, { runId, status: "failed", endReason: "stale_run", lastSeq: all.length })

        // A page that is loaded now joins the run that has just ended, and can start the next one.
        yield* step(() => page.reload())
        yield* text(page, stale)
        assert.strictEqual(yield* shown(page), data.length)
        yield* click(page, "Count again")
        yield* text(page, /^Running\./m)
        assert.notMatch(yield* step(() => page.innerText("body")), stale)
        const next = yield* active(server)
        assert.notStrictEqual(next.runId, runId)
        assert.strictEqual(next.status, "running")
        yield* click(page, "Stop")
        yield* text(page, /^The run was stopped by you\.$/m)
        assert.deepInclude(yield* active(server), { runId: next.runId, status: "aborted" })
        assert.deepStrictEqual(problems, [])
      }),
    Programs.timeout
  )
})
