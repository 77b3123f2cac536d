import { assert, describe, it } from "@effect/vitest"
import { readFile } from "node:fs/promises"
import * as Suites from "../src/index.ts"

describe("the README", () => {
  it("lists every suite", async () => {
    const readme = await readFile(new URL("../README.md", import.meta.url), "utf8")
    const rows = new Set(Array.from(readme.matchAll(/^\| `(\w+Suite)` \|/gm), ([, name]) => name))
    const suites = Object.keys(Suites).filter((name) => name.endsWith("Suite"))
    assert.deepStrictEqual(suites.filter((name) => !rows.has(name)), [])
  })
})
