import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { program, temporaryDirectory, timeout } from "../../../test-support/programs.ts"

const root = NPath.join(import.meta.dirname, "../../..")

/** Makes a checkout of its own, of which no other test reads the pages. */
const checkout = Effect.map(temporaryDirectory, (directory) => {
  const path = NPath.join(directory, "checkout")
  const copied = [
    "package.json",
    "package-lock.json",
    "scripts/pages.ts",
    "packages/web/pages",
    "packages/web/package.json"
  ]
  for (const name of copied) NFS.cpSync(NPath.join(root, name), NPath.join(path, name), { recursive: true })
  for (const name of ["node_modules", ...["react", "client", "contract", "core"].map((name) => `packages/${name}`)]) {
    NFS.symlinkSync(NPath.join(root, name), NPath.join(path, name))
  }
  return path
})

const build = (path: string) =>
  Effect.gen(function*() {
    const running = yield* program(NPath.join(path, "scripts/pages.ts"), [])
    const { code } = yield* running.exit
    assert.strictEqual(code, 0, running.stderr())
    return /^Built the pages in \d+ ms\.\n$/.test(running.stderr())
  })

describe("building the pages", () => {
  it.live(
    "WEB-04: is done if they are not there or older than a source, by several at once too, and not otherwise",
    () =>
      Effect.gen(function*() {
        const path = yield* checkout
        const directory = NPath.join(path, "packages/web/dist/internal")
        const read = () => NFS.readFileSync(NPath.join(directory, "pages.js"), "utf8")
        assert.isTrue((yield* Effect.all([build(path), build(path)], { concurrency: 2 })).includes(true))
        const before = read()
        assert.isFalse(yield* build(path))

        NFS.appendFileSync(NPath.join(path, "packages/web/pages/pages.css"), "\n.a-new-rule { color: red }\n")
        assert.isTrue(yield* build(path))
        assert.isFalse(before.includes("a-new-rule"))
        assert.isTrue(read().includes("a-new-rule"))
        assert.isFalse(yield* build(path))

        NFS.rmSync(NPath.join(directory, "pages.js"))
        assert.isTrue(yield* build(path))
        assert.deepStrictEqual(NFS.readdirSync(directory), ["pages.js"])
      }),
    timeout
  )
})
