import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const program = fileURLToPath(new URL("./programs/work.ts", import.meta.url))

interface Counts {
  readonly name: string
  readonly half: number
  readonly whole: number
}

describe("the decoders that meet the network", () => {
  it("BOOT-11 C-24: do at most about twice the work for an input of the largest size as for one of half of it", () => {
    const output = execFileSync(process.execPath, ["--conditions=sallyport-source", program], { encoding: "utf8" })
    const counts: ReadonlyArray<Counts> = JSON.parse(output)
    assert.isAbove(counts.length, 100)
    // Some of them look at every character.
    assert.isAbove(Math.max(...counts.map(({ whole }) => whole)), 100_000)
    for (const { half, name, whole } of counts) assert.isAtMost(whole, 2.2 * half + 50_000, name)
  }, 600_000)
})
