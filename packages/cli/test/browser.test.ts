import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NPath from "node:path"
import type { BrowserContext, Page } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import * as Network from "../../../test-support/network.ts"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"

const { step } = Browser

/** Opens a page, and records its errors. */
const open = Effect.fnUntraced(function*(context: BrowserContext) {
  const page = yield* step(() => context.newPage())
  const problems: Array<string> = []
  page.on("pageerror", (error) => problems.push(String(error)))
  page.on("console", (message) => {
    if (message.text().includes("Content Security Policy")) problems.push(message.text())
  })
  return { page, problems }
})

/** The `id:count` pairs of the events that a page has shown, in the order that it saw them. */
const eventsOf = (page: Page) => step(() => page.evaluate(() => document.body.dataset.events?.trim().split(" ") ?? []))

const counts = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => `${from + index}:${from + index}`)

const seen = (page: Page, id: number) =>
  step(() => page.waitForFunction((id) => document.body.dataset.events?.includes(` ${id}:`), id, { polling: 100 }))

const text = (page: Page, selector: string, wanted: RegExp) =>
  step(() =>
    page.waitForFunction(
      ([selector, source]) => new RegExp(source).test(document.querySelector(selector)?.textContent ?? ""),
      [selector, wanted.source] as const,
      { polling: 100 }
    )
  )

const ended = (page: Page) =>
  step(async () => {
    const end = await page.waitForFunction(() => document.body.dataset.end, undefined, { polling: 100 })
    return end.jsonValue()
  })

/** Opens a pairing address, and pairs when the page asks. */
const pair = Effect.fnUntraced(function*(page: Page, pairingUrl: string) {
  yield* step(() => page.goto(pairingUrl))
  yield* step(() => page.click("#confirm"))
  yield* text(page, "#status", /^Signed in as owner/)
})

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

describe("a browser", () => {
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
        yield* text(page, "#status", /^This browser is not paired\.$/)
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

        yield* step(() => page.click("#start"))
        yield* seen(page, 2)
        assert.isTrue(yield* step(() => page.isDisabled("#start")))
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
          yield* text(page, "#connection", /^Connection lost/)
          if (offline) yield* picture(page, "lost")
          const before = yield* eventsOf(page)
          yield* Programs.eventually(look, (lastSeq) => lastSeq >= before.length + 3)
          assert.deepStrictEqual(yield* eventsOf(page), before, "nothing comes over a wire that is cut")
          network.join(server)
          if (offline) yield* step(() => context.setOffline(false))
          yield* seen(page, before.length + 3)
          yield* text(page, "#connection", /^Following the run/)
        }

        // A second page of this browser joins the run, from its first event, and so does one that is loaded again.
        const second = yield* open(context)
        yield* step(() => second.page.goto(network.url))
        yield* seen(second.page, 2)
        yield* step(() => second.page.reload())
        yield* seen(second.page, 2)

        for (const each of [page, second.page]) {
          assert.strictEqual(yield* ended(each), "succeeded ")
          assert.deepStrictEqual(yield* eventsOf(each), counts(1, 30))
          yield* text(each, "#connection", /^The run has ended\.$/)
          assert.isTrue(yield* step(() => each.isEnabled("#start")))
        }
        // The end is shown once: the page does not connect again to a run that is over.
        const requests: Array<string> = []
        page.on("request", (request) => requests.push(request.url()))
        network.cut()
        network.join(server)
        yield* step(() => page.click("#logout"))
        yield* text(page, "#status", /^This browser is not paired\.$/)
        assert.deepStrictEqual(requests, [`${network.url}/api/auth/logout`])
        assert.deepStrictEqual(yield* step(() => context.cookies()), [])
        yield* step(() => second.page.reload())
        yield* text(second.page, "#status", /^This browser is not paired\.$/)
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
        const sent: Array<string> = []
        page.on("request", (request) => {
          if (request.method() === "POST") sent.push(request.postData() ?? "")
        })
        yield* step(() => page.goto(`${server.url}/pair`))
        yield* text(page, "#status", /^Enter the code/)
        yield* picture(page, "pair")
        const focused = () => step(() => page.evaluate(() => document.activeElement?.id))
        assert.strictEqual(yield* focused(), "code")

        // One that was used up, and one that was mistyped.
        const mistyped = right.slice(0, -1) + (right.endsWith("2") ? "3" : "2")
        for (const wrong of [server.code, mistyped]) {
          sent.length = 0
          yield* step(() => page.fill("#code", wrong))
          yield* step(() => page.press("#code", "Enter"))
          yield* step(() => page.waitForSelector("#status[data-state=error]"))
          const sentence = yield* step(() => page.innerText("#status"))
          assert.match(sentence, /^[A-Z][^{}"<>]+$/)
          assert.strictEqual(yield* step(() => page.getAttribute("#code", "aria-invalid")), "true")
          assert.strictEqual(yield* focused(), "code")
          assert.lengthOf(sent, 1)
          yield* picture(page, "wrong")
          yield* step(() => page.evaluate(() => delete document.getElementById("status")?.dataset.state))
        }

        // In lower case and without dashes, by four submissions in a row.
        sent.length = 0
        yield* step(() => page.fill("#code", right.toLowerCase().replaceAll("-", "")))
        yield* step(() =>
          page.evaluate(() => {
            const form = document.querySelector("form")
            for (let click = 0; click < 4; click++) form?.requestSubmit()
          })
        )
        yield* text(page, "#status", /^Signed in as owner/)
        assert.lengthOf(sent, 1)

        // An address that is opened on the page itself changes only the fragment.
        const again = yield* issueCode(page)
        const other = yield* open(yield* Browser.profile(chromium))
        yield* step(() => other.page.goto(`${server.url}/pair`))
        yield* text(other.page, "#status", /^Enter the code/)
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
        yield* pair(page, server.pairingUrl)

        const keys: Array<string | undefined> = []
        let asked = 0
        yield* step(async () => {
          // The server accepts the first start, and the page never learns that.
          await page.route("**/api/runs", async (route) => {
            keys.push(route.request().headers()["idempotency-key"])
            if (keys.length > 1) return route.continue()
            await route.fetch()
            await route.abort("connectionreset")
          })
          // An EventSource does not try again by itself after an answer that is an error.
          await page.route(
            "**/events?*",
            (route) => asked++ === 0 ? route.fulfill({ status: 502, body: "bad gateway" }) : route.continue()
          )
          await page.click("#start")
        })
        yield* text(page, "#connection", /^The server cannot be reached/)
        const active = ask<{ readonly run: Sallyport.RunView }>(page, "GET", "/api/threads/demonstration/active-run")
        const { run } = yield* active
        assert.strictEqual(run.status, "running")
        yield* step(() => page.click("#start"))
        yield* seen(page, 3)
        assert.isAbove(asked, 1)
        assert.lengthOf(keys, 2)
        assert.strictEqual(keys[1], keys[0])
        assert.strictEqual((yield* active).run.runId, run.runId)
        const events = yield* eventsOf(page)
        assert.deepStrictEqual(events, counts(1, events.length))
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
        yield* step(() => page.click("#start"))
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

        assert.strictEqual(yield* ended(page), "stale_run ")
        assert.deepStrictEqual(yield* eventsOf(page), counts(1, data.length))
        yield* text(page, "#connection", /^The run failed: /)
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
        assert.strictEqual(yield* ended(page), "stale_run ")
        assert.deepStrictEqual(yield* eventsOf(page), counts(1, data.length))
        yield* step(() => page.click("#start"))
        yield* step(() => page.waitForSelector("#abort:not([hidden])"))
        const next = yield* active(server)
        assert.notStrictEqual(next.runId, runId)
        assert.strictEqual(next.status, "running")
        yield* step(() => page.click("#abort"))
        assert.strictEqual(yield* ended(page), "aborted ")
        yield* text(page, "#connection", /^The run was stopped\.$/)
        assert.deepStrictEqual(problems, [])
      }),
    Programs.timeout
  )
})
