/**
 * Keeps the documents true: their code compiles and is tested here, and their tables match the sources.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import * as WireError from "@sallyport/contract/WireError"
import { Effect, FileSystem, Path } from "effect"
import * as Documentation from "./documentation.ts"

layer(NodeServices.layer)("documentation", (it) => {
  for (const document of Documentation.documents) {
    it.effect(`${document}: each TypeScript block is a region of an example`, () =>
      Effect.gen(function*() {
        const blocks = Documentation.codeBlocks(yield* Documentation.read(document))
        for (const { code, comment } of blocks.filter(({ language }) => language === "ts")) {
          const [, file, name] = /^from (\S+)#(\S+)$/.exec(comment ?? "") ?? []
          if (file === undefined || name === undefined) assert.fail(`no comment says where this is from:\n${code}`)
          assert.strictEqual(
            code,
            Documentation.region(yield* Documentation.read(file), name),
            `the block and ${file}#${name} differ; copy the region into ${document}`
          )
        }
      }))

    it.effect(`${document}: links lead to files that are there`, () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const markdown = yield* Documentation.read(document)
        for (const [, link = ""] of markdown.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
          const target = path.join(yield* Documentation.directory, path.dirname(document), link)
          assert.isTrue(yield* fs.exists(target), link)
        }
      }))
  }

  it.effect("README.md: the mount has up to 30 lines", () =>
    Effect.gen(function*() {
      const mount = Documentation.codeBlocks(yield* Documentation.read("README.md")).find(({ language }) =>
        language === "ts"
      )
      assert.isAtMost(mount?.code.trimEnd().split("\n").length ?? Infinity, 30)
    }))

  it.effect("README.md: the table of errors is the contract's", () =>
    Effect.gen(function*() {
      // Those of the token endpoint have OAuth's form.
      const rows = Object.entries(WireError).flatMap(([tag, error]) => {
        if (!("code" in error.fields) || "error" in error.fields) return []
        const codes = error.fields.code.literals.map((code) => `\`${code}\``).join(", ")
        return [`| ${String(error.ast.annotations?.httpApiStatus)} | \`${tag}\` | ${codes} |`]
      })
      assert.deepStrictEqual(
        (yield* Documentation.read("README.md")).match(/^\| [45]\d\d \|.*$/gm)?.toSorted(),
        rows.toSorted(),
        "README.md lists other errors than @sallyport/contract/WireError; put the expected rows into its table"
      )
    }))

  it.effect("README.md: what it names of Effect 4 is there", () =>
    Effect.gen(function*() {
      const table = (yield* Documentation.read("README.md")).split("| before Effect 4 | in Effect 4 |")[1] ?? ""
      const names = new Set(
        Array.from(
          table.matchAll(/`(effect\/[\w/-]+|@effect\/(?:platform-node|sql-pg|vitest)|@sallyport\/[\w-]+)`/g),
          ([, name = ""]) => name
        )
      )
      assert.isAbove(names.size, 15)
      for (const name of names) assert.doesNotThrow(() => import.meta.resolve(name), name)
    }))
})
