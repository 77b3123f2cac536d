/** The forms of `--json`, as the package publishes them. */
import { assert, describe, expect, it } from "@effect/vitest"
import * as Output from "@sallyport/cli/Output"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { fileURLToPath } from "node:url"
import { commandLine } from "./commandLine.ts"

/** Collects the forms in one document, in which each command is a definition. */
const document = () => {
  const definitions: Record<string, unknown> = {}
  for (const [command, schema] of Object.entries(Output.byCommand)) {
    const { definitions: used, schema: own } = Schema.toJsonSchemaDocument(Schema.toEncoded(schema))
    for (const [name, definition] of Object.entries({ ...used, [command]: own })) {
      // Two forms with one name would be one form in the document.
      if (name in definitions) assert.deepStrictEqual(definition, definitions[name], name)
      definitions[name] = definition
    }
  }
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "What the commands of sallyport print with --json: one object, or one for each line of a tail",
    $defs: Object.fromEntries(Object.entries(definitions).toSorted(([a], [b]) => a.localeCompare(b, "en")))
  }
}

describe("the published forms of --json", () => {
  it.live("are of each command that takes --json", () =>
    Effect.gen(function*() {
      const commands: Array<ReadonlyArray<string>> = [[]]
      const found: Array<string> = []
      for (const path of commands) {
        const { stdout } = yield* commandLine([...path, "--help"])
        const [, subcommands] = stdout.split("SUBCOMMANDS\n")
        for (const [, name = ""] of (subcommands ?? "").matchAll(/^ {2}([a-z-]+) /gm)) commands.push([...path, name])
        if (subcommands === undefined && / {2}--json /.test(stdout)) found.push(path.join(" "))
      }
      assert.sameMembers(found, Object.keys(Output.byCommand))
    }))

  it("are those of output.schema.json; npx vitest -u rewrites it", async () => {
    await expect(`${JSON.stringify(document(), undefined, 2)}\n`).toMatchFileSnapshot(
      fileURLToPath(new URL("../output.schema.json", import.meta.url))
    )
  })
})
