/** Keeps a page in `docs/errors` for each code that a caller can meet, and none beside them. */
import { assert, it } from "@effect/vitest"
import { exitCodes } from "@sallyport/cli/ExitCode"
import { AccessStreamFailure } from "@sallyport/contract/AccessGroup"
import { RunStreamFailure } from "@sallyport/contract/RunGroup"
import * as WireError from "@sallyport/contract/WireError"
import { Predicate } from "effect"
import * as NFS from "node:fs"
import * as NPath from "node:path"

const directory = NPath.join(import.meta.dirname, "../../../docs/errors")

const literalsOf = (schema: unknown): ReadonlyArray<string> => {
  if (Predicate.hasProperty(schema, "literals") && Array.isArray(schema.literals)) return schema.literals.map(String)
  return Predicate.hasProperty(schema, "literal") ? [String(schema.literal)] : []
}

const codes = new Set(
  [...Object.values(WireError), AccessStreamFailure, RunStreamFailure].flatMap(({ fields }) => [
    ...("code" in fields ? literalsOf(fields.code) : []),
    ...("error" in fields ? literalsOf(fields.error) : [])
  ])
)
const pages = [
  ...codes,
  ...Object.keys(exitCodes).map((name) => `exit${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`)
]

it("each code of an error has a page with its cause and its remedy, and no page is left over", () => {
  assert.isAbove(codes.size, 50)
  const files = NFS.readdirSync(directory).filter((file) => file !== "README.md")
  assert.deepStrictEqual(files.toSorted(), pages.map((page) => `${page}.md`).toSorted())
  for (const file of files) {
    const text = NFS.readFileSync(NPath.join(directory, file), "utf8")
    assert.match(text, /^# [^]+^## Cause\n\n[^]{20,}^## Remedy\n\n[^]{10,}/m, file)
  }
})

it("the list of errors names each page once", () => {
  const list = NFS.readFileSync(NPath.join(directory, "README.md"), "utf8")
  const named = Array.from(list.matchAll(/\]\(([\w-]+)\.md\)/g), ([, page = ""]) => page)
  assert.deepStrictEqual(named.toSorted(), pages.toSorted())
})
