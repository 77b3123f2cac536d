import { assert, describe, it } from "@effect/vitest"
import { readdir, readFile } from "node:fs/promises"
import * as Suites from "../src/index.ts"
import { mutants } from "./programs/mutants.ts"

describe("the list of suites", () => {
  it("is whole: in the index, in the README, and in the test of the suites", async () => {
    const files = await readdir(new URL("../src", import.meta.url))
    const suites = files.flatMap((file) => /^(\w+Suite)\.ts$/.exec(file)?.[1] ?? []).sort()
    assert.deepStrictEqual(Object.keys(Suites).sort(), suites)
    const readme = await readFile(new URL("../README.md", import.meta.url), "utf8")
    const rows = Array.from(readme.matchAll(/^\| `(\w+Suite)` \|/gm), ([, name = ""]) => name)
    assert.deepStrictEqual(rows.sort(), suites)
    const broken = new Set(mutants.filter(({ breaks }) => breaks !== undefined).map(({ suite }) => `${suite}Suite`))
    assert.deepStrictEqual(Array.from(broken).sort(), suites)
  })
})
