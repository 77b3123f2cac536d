import { assert, describe, it } from "@effect/vitest"
import { programsOf } from "../../../test-support/readmes.ts"

const readme = "packages/testing/README.md"

describe(`C-82: the program of ${readme}`, async () => {
  const programs = programsOf(readme)
  it("is one", () => assert.lengthOf(programs, 1))
  // It declares tests, as a test file of its own does.
  for (const { file, place } of programs) {
    place()
    await import(file)
  }
})
