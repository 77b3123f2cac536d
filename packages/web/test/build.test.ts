import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { program, temporaryDirectory, timeout } from "../../../test-support/programs.ts"

const root = NPath.join(import.meta.dirname, "../../..")

/** Makes a checkout of its own, of which no other test reads the pages: with the programs that it depends on, and no page. */
const checkout = Effect.map(temporaryDirectory, (directory) => {
  const path = NPath.join(directory, "checkout")
  for (const name of ["package.json", "package-lock.json", "scripts/annotate.ts", "scripts/pages.ts"]) {
    NFS.cpSync(NPath.join(root, name), NPath.join(path, name))
  }
  const modules = NPath.join(path, "node_modules")
  NFS.mkdirSync(NPath.join(modules, "@sallyport"), { recursive: true })
  for (const name of NFS.readdirSync(NPath.join(root, "node_modules"))) {
    if (name === "@sallyport") continue
    NFS.symlinkSync(NPath.join(root, "node_modules", name), NPath.join(modules, name))
  }
  for (const name of NFS.readdirSync(NPath.join(root, "packages"))) {
    for (const part of ["package.json", "src", ...(name === "web" ? ["pages"] : [])]) {
      const from = NPath.join(root, "packages", name, part)
      if (NFS.existsSync(from)) NFS.cpSync(from, NPath.join(path, "packages", name, part), { recursive: true })
    }
    NFS.symlinkSync(NPath.join(path, "packages", name), NPath.join(modules, "@sallyport", name))
  }
  return path
})

/** Takes from a checkout the right to be written to. The directory of the pages is closed to the superuser as well, if it is new. */
const readOnly = (path: string) => {
  const output = NPath.join(path, "packages/web/dist")
  if (!NFS.existsSync(output)) NFS.writeFileSync(output, "")
  const directories = NFS.readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name, parentPath }) => NPath.join(parentPath, name))
  const change = (mode: number) => {
    for (const directory of [path, ...directories]) NFS.chmodSync(directory, mode)
  }
  return Effect.acquireRelease(Effect.sync(() => change(0o555)), () => Effect.sync(() => change(0o755)))
}

/** Starts a checkout as its README says: the script `start`, through a shell. */
const start = (path: string, state: string) => {
  const { scripts }: { readonly scripts: { readonly start: string } } = JSON.parse(
    NFS.readFileSync(NPath.join(path, "package.json"), "utf8")
  )
  const line = `cd "${path}" && PATH="${NPath.dirname(process.execPath)}:$PATH" && ${scripts.start}`
  return program("-", [], {}, ["sh", "-c", `${line} --port 0 --json --state-dir "${state}"`])
}

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

  it.live(
    "WEB-04: a checkout that cannot be written to starts with the pages that it has, and says what to do if it has none",
    () =>
      Effect.gen(function*() {
        const path = yield* checkout
        const state = NPath.join(yield* temporaryDirectory, "state")
        yield* Effect.scoped(Effect.gen(function*() {
          yield* readOnly(path)
          const refused = yield* start(path, state)
          assert.strictEqual((yield* refused.exit).code, 1)
          assert.strictEqual(refused.stdout(), "")
          assert.match(
            refused.stderr(),
            /^The pages cannot be built: [^\n]+\nRun `npm run pages` as a user who may write below \S+packages\/web\.\n$/
          )
          assert.isFalse(NFS.existsSync(state))
        }))

        NFS.rmSync(NPath.join(path, "packages/web/dist"))
        assert.isTrue(yield* build(path))
        const pages = NPath.join(path, "packages/web/dist/internal/pages.js")
        const before = NFS.statSync(pages)
        yield* readOnly(path)
        const running = yield* start(path, state)
        const { url }: { readonly url: string } = JSON.parse(yield* Effect.orDie(running.printed(/^\{.*\n/)))
        const page = yield* Effect.promise(() => fetch(`${url}/pair`))
        const body = yield* Effect.promise(() => page.text())
        assert.strictEqual(page.status, 200)
        const [, script = ""] = /src="([^"]+\.js)"/.exec(body) ?? []
        const asset = yield* Effect.promise(() => fetch(new URL(script, `${url}/pair`)))
        assert.strictEqual(asset.status, 200, script)
        assert.notInclude(running.stderr(), "Built the pages")
        assert.strictEqual(NFS.statSync(pages).mtimeMs, before.mtimeMs)
      }),
    timeout
  )
})
