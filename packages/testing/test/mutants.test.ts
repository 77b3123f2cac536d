/**
 * Tests the tests: each suite passes the adapter that keeps its contract, and names what a broken one breaks.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { execFile } from "node:child_process"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { beforeAll } from "vitest"
import { mutants } from "./programs/mutants.ts"

const root = join(import.meta.dirname, "..", "..", "..")

const Report = Schema.fromJsonString(Schema.Struct({
  testResults: Schema.Array(Schema.Struct({
    assertionResults: Schema.Array(Schema.Struct({
      ancestorTitles: Schema.Array(Schema.String),
      title: Schema.String,
      status: Schema.String,
      failureMessages: Schema.NullOr(Schema.Array(Schema.String))
    }))
  }))
}))

type Result = typeof Report.Type["testResults"][number]["assertionResults"][number]

/** Runs every suite on every mutant in a process of its own, and returns what came of each test. */
const run = async (): Promise<ReadonlyArray<Result>> => {
  const directory = await mkdtemp(join(tmpdir(), "sallyport-mutants-"))
  try {
    const outputFile = join(directory, "report.json")
    const vitest = join(root, "node_modules", "vitest", "vitest.mjs")
    const config = join(import.meta.dirname, "programs", "vitest.config.ts")
    await new Promise<void>((resolve) =>
      execFile(
        process.execPath,
        [vitest, "run", "--root", root, "--config", config, "--reporter=json", `--outputFile=${outputFile}`],
        { cwd: root, maxBuffer: 64_000_000 },
        // It fails, as it should; whether it did what it should is in the report.
        () => resolve()
      )
    )
    const { testResults } = Schema.decodeUnknownSync(Report)(await readFile(outputFile, "utf8"))
    return testResults.flatMap(({ assertionResults }) => assertionResults)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

describe("the suites", () => {
  let results: ReadonlyArray<Result> = []
  beforeAll(async () => {
    results = await run()
  }, 300_000)

  for (const { breaks, name, suite } of mutants) {
    it(`${suite}Suite judges an adapter: ${name}`, () => {
      const own = results.filter(({ ancestorTitles }) => ancestorTitles.includes(`${suite} (${name})`))
      assert.isAbove(own.length, 2, `the suite was not run on ${name}`)
      const failed = own.filter(({ status }) => status !== "passed")
      if (breaks === undefined) {
        assert.deepStrictEqual(failed.map(({ title }) => title), [])
      } else {
        assert.isTrue(
          failed.some(({ title }) => title.startsWith(breaks)),
          `no test that begins with "${breaks}" failed, but these did: ${failed.map(({ title }) => title).join("; ")}`
        )
        assert.isBelow(failed.length, own.length, "a suite that fails whole does not say what is broken")
      }
    })
  }

  it("a sequence of steps that goes wrong names the operation whose contract is broken", () => {
    const messages = results.filter(({ ancestorTitles, title }) =>
      ancestorTitles.includes("BootstrapCredentialRepository (revokes again and again)") &&
      title.startsWith("answers any sequence of steps")
    ).flatMap(({ failureMessages }) => failureMessages ?? [])
    assert.include(messages.join("\n"), "BootstrapCredentialRepository.revoke does not answer as its contract says")
  })
})
