/**
 * Checks and runs the examples of the doc comments of all packages, each as a program of its own.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { build } from "vite"
import { timeout } from "../../../test-support/programs.ts"

const root = fileURLToPath(new URL("../../../", import.meta.url))
const run = promisify(execFile)

interface Example {
  readonly module: string
  readonly title: string
  readonly code: string
}

const examplePattern = /^ *\* \*\*Example\*\* \((.+)\)\n(?: *\*\n)+ *\* ```ts\n([^]*?)^ *\* ```$/gm

/** Returns the examples of a source, without what makes them a comment. */
const examplesOf = (module: string, source: string): ReadonlyArray<Example> =>
  Array.from(source.matchAll(examplePattern), ([, title = "", code = ""]) => ({
    module,
    title,
    code: code.replaceAll(/^ *\* ?/gm, "")
  }))

const sources = globSync("packages/*/src/**/*.{ts,tsx}", { cwd: root }).toSorted()
const examples = sources.flatMap((module) => examplesOf(module, readFileSync(join(root, module), "utf8")))

describe("examples of doc comments", () => {
  // In the repository, so that they find its packages, and not in node_modules, if Node runs no TypeScript.
  const directory = mkdtempSync(join(root, ".examples-"))
  const fileOf = (index: number) => join(directory, `example${index}.ts`)
  const programs = join(directory, "programs")
  afterAll(() => rmSync(directory, { recursive: true, force: true }))
  beforeAll(async () => {
    writeFileSync(
      join(directory, "tsconfig.json"),
      JSON.stringify({
        extends: "../tsconfig.json",
        compilerOptions: { customConditions: ["sallyport-source"] },
        include: ["*.ts", "../packages/*/src/*.d.ts"]
      })
    )
    for (const [index, { code }] of examples.entries()) writeFileSync(fileOf(index), code)
    // Each starts much faster than from its sources.
    await build({
      root,
      configFile: false,
      logLevel: "error",
      ssr: {
        noExternal: [/^@sallyport\//, /^effect(\/|$)/, /^@effect\//],
        resolve: { conditions: ["sallyport-source", "node"] }
      },
      build: {
        outDir: programs,
        ssr: true,
        target: "node24",
        rolldownOptions: {
          input: examples.map((_, index) => fileOf(index)),
          output: { entryFileNames: "[name].js", comments: false }
        }
      }
    })
    writeFileSync(join(programs, "package.json"), JSON.stringify({ type: "module" }))
  }, timeout)

  it("are whole: no TypeScript block stands outside of an example", () => {
    const fences = sources.flatMap((module) =>
      Array.from(readFileSync(join(root, module), "utf8").matchAll(/^ *\* ```ts$/gm), () => module)
    )
    assert.deepStrictEqual(fences, examples.map(({ module }) => module))
  })

  it("stand at the six services", () => {
    const modules = new Set(examples.map(({ module }) => module.replace(/^.*\/(\w+)\.ts$/, "$1")))
    assert.includeMembers(Array.from(modules), [
      "BootstrapCredentialService",
      "ConnectClientStore",
      "CredentialScopeResolver",
      "RunEventLog",
      "SecretStore",
      "SessionCredentialService"
    ])
  })

  it("compile", async () => {
    const { stdout } = await run(process.execPath, [
      join(root, "node_modules/typescript/bin/tsc"),
      "--project",
      directory
    ]).catch((error: unknown) => ({ stdout: String(Reflect.get(Object(error), "stdout")) }))
    assert.strictEqual(stdout, "")
  }, timeout)

  for (const [index, { code, module, title }] of examples.entries()) {
    it(`run: ${module}, ${title}`, async () => {
      const { stdout } = await run(process.execPath, [join(programs, `example${index}.js`)])
      const expected = Array.from(code.matchAll(/^ *\/\/ => (.*)$/gm), ([, line]) => line)
      assert.deepStrictEqual(stdout.split("\n").slice(0, -1), expected)
    }, timeout)
  }
})
