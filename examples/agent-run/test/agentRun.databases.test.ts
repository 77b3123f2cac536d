import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { step } from "../../../test-support/browser.ts"
import { url } from "../../../test-support/databases.ts"
import { temporaryDirectory, timeout } from "../../../test-support/programs.ts"
import { ended, events, log, numbers, scene, seen, serve } from "./support.ts"

describe("two nodes", () => {
  it.live(
    "RUN-20 RUN-21: on two nodes, the other one goes on after SIGKILL, in the tool and in the question, and takes the answer",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const shared = { SALLYPORT_DATABASE_URL: yield* url }
        const { page, server, wire } = yield* scene(directory, shared)
        const second = yield* serve(directory, shared)
        yield* step(() => page.click("#start"))
        yield* seen(page, 4)
        yield* wire.refuse
        yield* server.stop("SIGKILL")
        yield* wire.lead(second.url)
        yield* step(() => page.waitForSelector("#yes:visible"))

        // The question is open when its process goes; it is answered at the next one.
        const third = yield* serve(directory, shared)
        yield* wire.refuse
        yield* second.stop("SIGKILL")
        yield* wire.lead(third.url)
        yield* step(() => page.reload())
        yield* step(() => page.click("#yes"))
        assert.strictEqual(yield* ended(page), "succeeded ")
        const shown = yield* log(page)
        assert.deepStrictEqual(shown.map(({ seq }) => seq), numbers(events))
        assert.strictEqual(new Set(shown.map(({ text }) => text)).size, events)
        assert.strictEqual(shown.at(-1)?.text, "The release notes are published.")
      }),
    timeout
  )
})
