import { assert, describe, it } from "@effect/vitest"
import { callers, markdown, operations, rowsBefore, table } from "@sallyport/testing/CredentialTable"
import * as Fs from "node:fs"

describe("docs/scoped-credentials.md", () => {
  it("shows the table that the tests run, made by npm run credential-table", () => {
    const page = Fs.readFileSync(new URL("../../../../docs/scoped-credentials.md", import.meta.url), "utf8")
    assert.include(page, `\n${markdown()}\n`)
  })

  it("has a line for each role, place, state of the look-up and operation", () => {
    assert.lengthOf(table, callers.length * rowsBefore.length * operations.length * 2)
  })
})
