import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { temporaryDirectory, timeout } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"
import * as ThumbprintArguments from "../src/internal/thumbprintArguments.ts"

describe("thumbprints that begin with a hyphen", () => {
  it("are values, wherever they stand, and flags stay flags", () => {
    const separated = (line: string) => ThumbprintArguments.separate(line.split(" ")).join(" ")
    assert.strictEqual(
      separated("connect approve -VY0 --code 5X4V-XDKP --json"),
      "connect approve --code 5X4V-XDKP --json -- -VY0"
    )
    assert.strictEqual(separated("connect block --Y-_0"), "connect block -- --Y-_0")
    assert.strictEqual(separated("connect block --json -- --json"), "connect block --json -- --json")
    assert.strictEqual(
      separated("connect security client-approval --trust -VY0 --trust --Y0"),
      "connect security client-approval --trust=-VY0 --trust=--Y0"
    )
    for (const line of ["connect link --new-key -h", "connect approve abc --code=-V0", "serve -x --port 0"]) {
      assert.strictEqual(separated(line), line)
    }
  })

  it.live("name a client, and do not ask for help", () =>
    Effect.gen(function*() {
      const state = ["--state-dir", yield* temporaryDirectory]
      yield* commandLine(["connect", "security", "client-approval", ...state])
      const { code, stderr } = yield* commandLine(["connect", "block", "-hVY0XnOooh", ...state])
      assert.strictEqual(code, 3)
      assert.include(stderr, "There is no client -hVY0XnOooh")
    }), timeout)
})
