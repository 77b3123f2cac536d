import { assert, it } from "@effect/vitest"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { createElement } from "react"
import { renderToString } from "react-dom/server"
import { codeBlocks } from "../../../examples/existing-server/test/documentation.ts"

it("C-82: the program of the README renders on a server, where nothing is known yet", async () => {
  const readme = NFS.readFileSync(NPath.join(import.meta.dirname, "../README.md"), "utf8")
  const [program] = codeBlocks(readme).filter(({ language }) => language === "ts")
  assert(program !== undefined)
  const file = NPath.join(import.meta.dirname, `programs/readme-${crypto.randomUUID()}.ts`)
  NFS.writeFileSync(file, program.code)
  Object.assign(globalThis, { location: new URL("http://127.0.0.1:4590") })
  try {
    const { Page } = await import(file)
    assert.strictEqual(renderToString(createElement(Page)), "Looking…")
  } finally {
    NFS.rmSync(file)
  }
})
