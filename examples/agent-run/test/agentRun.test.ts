import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { step } from "../../../test-support/browser.ts"
import { temporaryDirectory, timeout } from "../../../test-support/programs.ts"
import { ended, events, isLost, log, numbers, scene, seen, serve } from "./support.ts"

describe("a page and the run of an agent", () => {
  it.live(
    "RUN-08 L-83: reloaded, offline, and opened twice, pages see every event once, and one decision counts",
    () =>
      Effect.gen(function*() {
        const { open, page, server, wire } = yield* scene(yield* temporaryDirectory)
        yield* step(() => page.click("#start"))
        yield* seen(page, 3)
        yield* step(() => page.reload())
        yield* seen(page, 4)

        const second = yield* open
        yield* seen(second, 4)

        const before = yield* log(page)
        yield* wire.refuse
        yield* step(() => page.context().setOffline(true))
        yield* isLost(page)
        yield* isLost(second)
        yield* wire.lead(server.url)
        yield* step(() => page.context().setOffline(false))
        // On a slow machine it may wait for its answer by now.
        yield* seen(page, Math.min(before.length + 2, events - 2))

        // Both pages ask, one answers, and that counts for both.
        for (const each of [page, second]) yield* step(() => each.waitForSelector("#yes:visible"))
        yield* step(() => second.click("#yes"))
        const third = yield* open
        for (const each of [page, second, third]) {
          assert.strictEqual(yield* ended(each), "succeeded ")
          const shown = yield* log(each)
          assert.deepStrictEqual(shown.map(({ seq }) => seq), numbers(events))
          assert.strictEqual(shown.at(-1)?.text, "The release notes are published.")
          assert.isFalse(yield* step(() => each.isVisible("#question")))
          assert.deepStrictEqual(shown.slice(-3, -1).map(({ text }) => text), [
            "Shall I publish release notes with 12 changes?",
            "Yes."
          ])
        }
      }),
    timeout
  )

  it.live(
    "RUN-01 L-70: a start whose answer is lost, and clicked again by the page, runs once",
    () =>
      Effect.gen(function*() {
        const { page } = yield* scene(yield* temporaryDirectory)
        const keys: Array<string | undefined> = []
        yield* step(() =>
          page.route("**/api/runs", async (route) => {
            keys.push(route.request().headers()["idempotency-key"])
            if (keys.length > 1) return route.continue()
            await route.fetch()
            await route.abort("connectionreset")
          })
        )
        yield* step(() => page.click("#start"))
        yield* step(() => page.click("#yes"))
        assert.strictEqual(yield* ended(page), "succeeded ")
        assert.deepStrictEqual((yield* log(page)).map(({ seq }) => seq), numbers(events))
        assert.lengthOf(keys, 2)
        assert.strictEqual(keys[1], keys[0])
      }),
    timeout
  )

  it.live(
    "RUN-07 RUN-17 L-84: after SIGKILL each page is told once, two pages continue it once, and the tool does only the rest",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const { open, page, server, wire } = yield* scene(directory)
        const second = yield* open
        yield* step(() => page.click("#start"))
        yield* seen(page, 5)
        yield* step(() => second.reload())
        yield* seen(second, 5)
        yield* wire.refuse
        yield* server.stop("SIGKILL")
        const next = yield* serve(directory)
        yield* wire.lead(next.url)

        for (const each of [page, second]) assert.strictEqual(yield* ended(each), "stale_run ")
        const found = (yield* log(page)).filter(({ text }) => text?.includes(" of 12: "))
        assert.isAtLeast(found.length, 4)
        const started: Array<string> = []
        for (const each of [page, second]) {
          each.on("response", async (response) => {
            if (!response.url().endsWith("/api/runs")) return
            const { run } = await response.json()
            started.push(run.runId)
            assert.strictEqual(run.continuation.reason, "stale_run")
          })
        }
        yield* step(() => Promise.all([page.click("#continue"), second.click("#continue")]))
        yield* step(() => page.click("#yes"))
        for (const each of [page, second]) {
          assert.strictEqual(yield* ended(each), "succeeded ")
          const shown = yield* log(each)
          assert.deepStrictEqual(shown.map(({ seq }) => seq), numbers(events))
          assert.deepStrictEqual(
            shown.filter(({ reused }) => reused).map(({ text }) => text),
            found.map(({ text }) => text)
          )
        }
        assert.lengthOf(started, 2)
        assert.strictEqual(started[0], started[1])
      }),
    timeout
  )
})
