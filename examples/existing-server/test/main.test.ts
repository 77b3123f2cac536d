import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { fileURLToPath } from "node:url"
import { program, temporaryDirectory, timeout } from "../../../test-support/programs.ts"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

it.live(
  "starts on a port that the system chooses if PORT is 0, and does not start if it is no port",
  () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const running = yield* program(main, [], { NOTES_STATE: directory, PORT: "0" })
      const url = yield* running.printed(/http:\S+#token=\S+/)
      assert.isAbove(Number(new URL(url).port), 0)
      const refused = yield* program(main, [], { NOTES_STATE: directory, PORT: "70000" })
      assert.strictEqual((yield* refused.exit).code, 1)
      assert.include(refused.stdout() + refused.stderr(), "PORT")
    }).pipe(Effect.scoped),
  timeout
)
