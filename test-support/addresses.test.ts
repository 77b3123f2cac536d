import { afterAll, assert, describe, it } from "@effect/vitest"
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { stale } from "../scripts/addresses.ts"

const root = join(import.meta.dirname, "..")

describe("the addresses of the packages", async () => {
  const copy = await mkdtemp(join(tmpdir(), "sallyport-addresses-"))
  afterAll(() => rm(copy, { recursive: true, force: true }))
  const names = await readdir(join(root, "packages"))
  for (const name of names) {
    await cp(join(root, "packages", name, "package.json"), join(copy, "packages", name, "package.json"))
  }
  const mend = async (repository?: unknown) => {
    await writeFile(join(copy, "package.json"), JSON.stringify({ repository }))
    for (const [file, text] of await stale(copy)) await writeFile(file, text)
  }
  const textOf = (name: string, from = copy) => readFile(join(from, "packages", name, "package.json"), "utf8")

  it("are copied from the root, replaced when it moves, and gone when it has none", async () => {
    await mend("https://one.example/acme/sallyport")
    await mend("https://code.example/acme/sallyport")
    for (const name of names) {
      const { bugs, homepage, repository } = JSON.parse(await textOf(name))
      assert.deepStrictEqual({ bugs, homepage, repository }, {
        bugs: "https://code.example/acme/sallyport/issues",
        homepage: `https://code.example/acme/sallyport/tree/main/packages/${name}#readme`,
        repository: {
          type: "git",
          url: "git+https://code.example/acme/sallyport.git",
          directory: `packages/${name}`
        }
      })
    }
    await mend()
    for (const name of names) assert.notMatch(await textOf(name), /"(repository|homepage|bugs)"/)
  })

  it("are refused if the root's is none that a browser opens", async () => {
    for (
      const repository of ["git@code.example:acme", "https://code.example/a.git", "https://code.example/a/", {}, 1]
    ) {
      const refusal = await mend(repository).then(() => "none", String)
      assert.include(refusal, "must be the address that a browser opens")
    }
  })

  it("are those of the root now", async () => {
    assert.deepStrictEqual(Array.from((await stale(root)).keys()), [])
  })
})
