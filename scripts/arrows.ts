/**
 * Checks the direction of the imports: packages depend one way only, and so do the capabilities inside of core.
 *
 * Every import in another direction is printed, and the exit code is 1 if there is one.
 */
import { glob, readFile } from "node:fs/promises"
import { dirname, join } from "node:path/posix"

const root = join(import.meta.dirname.replaceAll("\\", "/"), "..")

/** Lists for each package the packages that its sources may import. */
const packages: Readonly<Record<string, ReadonlyArray<string>>> = {
  "sqlite-node": [],
  core: [],
  pg: ["core"],
  node: ["core"],
  contract: ["core"],
  http: ["core", "contract", "web"],
  connect: ["core", "contract", "node"],
  "durable-streams": ["core", "http", "node"],
  interop: ["core", "durable-streams"],
  client: ["core", "contract"],
  react: ["core", "contract", "client"],
  web: ["client", "contract", "react"],
  testing: ["core", "contract", "connect", "durable-streams", "http", "client"],
  cli: ["core", "pg", "node", "contract", "http", "connect", "sqlite-node"]
}

/** Lists for each folder of core the folders that it may import, beside the primitives of the root. */
const capabilities: Readonly<Record<string, ReadonlyArray<string>>> = {
  sql: [],
  secrets: ["sql"],
  access: ["sql", "secrets"],
  connect: ["sql", "access"],
  credentials: ["sql", "access", "secrets"],
  runs: ["sql"]
}

/** Names the modules of core's root that put capabilities together. No capability imports them. */
const compositions = ["index", "Repositories", "SqlRepositories"]

/** Reads the place of a file: its package, and in core its folder and name. */
const placeOf = (path: string) => {
  const [, name = "", rest = ""] = /^packages\/([\w-]+)\/(?:src|pages)\/(.+)\.tsx?$/.exec(path) ?? []
  const [, folder, module = rest] = /^(\w+)\/(.+)$/.exec(rest) ?? []
  return { name, folder, module }
}

const importPattern = /\bfrom "([^"]+)"|\bimport\("([^"]+)"\)/g

const problems: Array<string> = []
for await (const entry of glob("packages/*/{src,pages}/**/*.{ts,tsx}", { cwd: root })) {
  const file = entry.replaceAll("\\", "/")
  const from = placeOf(file)
  const text = await readFile(join(root, file), "utf8")
  for (const [, plain, dynamic] of text.replaceAll(/^ *\*.*$/gm, "").matchAll(importPattern)) {
    const specifier = plain ?? dynamic ?? ""
    const other = /^@sallyport\/([\w-]+)/.exec(specifier)?.[1]
    if (other !== undefined && other !== from.name && packages[from.name]?.includes(other) !== true) {
      problems.push(`${file} imports ${specifier}, but ${from.name} may not depend on ${other}`)
    }
    if (from.name !== "core" || !specifier.startsWith(".")) continue
    const to = placeOf(join(dirname(file), specifier))
    if (to.folder === undefined) {
      if (from.folder !== undefined && compositions.includes(to.module)) {
        problems.push(`${file} imports ${to.module}, which puts capabilities together and stands above them`)
      }
    } else if (from.folder === undefined) {
      if (!compositions.includes(from.module)) {
        problems.push(`${file} imports ${to.folder}/${to.module}, but a primitive of the root knows no capability`)
      }
    } else if (to.folder !== from.folder && capabilities[from.folder]?.includes(to.folder) !== true) {
      problems.push(`${file} imports ${to.folder}/${to.module}, but ${from.folder} may not depend on ${to.folder}`)
    }
  }
}

for (const problem of problems) process.stdout.write(`${problem}\n`)
process.stdout.write(`${problems.length} imports point the wrong way\n`)
process.exitCode = problems.length === 0 ? 0 : 1
