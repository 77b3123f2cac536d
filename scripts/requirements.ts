/**
 * Writes docs/requirements.md: each promise of docs/requirements.json with the tests that cite its id in their titles; and
 * docs/oauth.md: each rule of docs/oauth.json with the tests whose titles name its row at their end, as `(Z1, T2-T4)`.
 *
 * `--check` fails when a page is stale, a rule of OAuth has no test, or a promise of the design has no test, `--complete`
 * also when a lesson has none. A title that cites an unknown id fails always, and so does a suite that no test calls,
 * because it proves nothing.
 */
import { glob, readFile, writeFile } from "node:fs/promises"
import { basename, join } from "node:path"
import { parseArgs } from "node:util"
import { parseAst } from "vitest/node"

interface Citation {
  readonly id: string
  readonly file: string
  readonly title: string
}

interface Source {
  readonly file: string
  readonly citations: ReadonlyArray<Citation>
  /** Ids in text that is no title: a reader of the report could not find the test. */
  readonly stray: ReadonlyArray<Citation>
  /** The suites of @sallyport/testing that the file imports. */
  readonly suites: ReadonlyArray<string>
}

const root = join(import.meta.dirname, "..")
const testFunctions = new Set(["it", "test", "describe", "suite", "layer", "refuses"])
const titleReferences = new Set(["Identifier", "MemberExpression"])

const sections: Readonly<Record<string, Readonly<Record<string, string>>>> = JSON.parse(
  await readFile(join(root, "docs", "requirements.json"), "utf8")
)
const promises = new Map(Object.values(sections).flatMap(Object.entries<string>))

const prefixes = [...new Set([...promises.keys()].map((id) => id.replace(/-\d+$/, "")))].join("|")
const idPattern = new RegExp(`\\b(?:${prefixes})-\\d\\d\\b`, "g")
// In a title any prefix counts, so that a misspelt one is found, but for UTF-16, SHA-25 and C-82.
const titlePattern = /\b(?!(?:C|SHA|UTF)-)[A-Z]{1,6}-\d\d\b/g

type Node = Readonly<Record<string, unknown>>

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && "type" in value && typeof value.type === "string"

const childrenOf = (node: Node): ReadonlyArray<Node> => Object.values(node).flat().filter(isNode)

/** Returns the text of a literal, of a template (with `…` for its computed parts) and of literals that are added up. */
const textOf = (node: unknown): string | undefined => {
  if (!isNode(node)) return undefined
  switch (node["type"]) {
    case "Literal":
      return typeof node["value"] === "string" ? node["value"] : undefined
    case "TemplateLiteral":
      return [node["quasis"]].flat().filter(isNode)
        .map(({ value }) =>
          typeof value === "object" && value !== null && "cooked" in value ? String(value.cooked) : ""
        )
        .join("…")
    case "BinaryExpression": {
      const [left, right] = [textOf(node["left"]), textOf(node["right"])]
      return left === undefined && right === undefined ? undefined : `${left ?? "…"}${right ?? "…"}`
    }
    default:
      return undefined
  }
}

/** Tells whether a call declares a test or a block of tests: `it(…)`, `it.effect.each(…)(…)`, `it.layer(…)(…)`. */
const isTestFunction = (callee: unknown): boolean => {
  if (!isNode(callee)) return false
  switch (callee["type"]) {
    case "Identifier":
      return testFunctions.has(String(callee["name"]))
    case "MemberExpression":
      return isTestFunction(callee["object"])
    case "CallExpression":
      return isTestFunction(callee["callee"])
    default:
      return false
  }
}

/** Tells whether a test function takes the title only in a second call: `it.layer(…)(title, …)`. */
const isModifier = (callee: unknown): boolean =>
  isNode(callee) && isNode(callee["property"]) && ["each", "for", "layer"].includes(String(callee["property"]["name"]))

const read = async (file: string): Promise<Source> => {
  const citations: Array<Citation> = []
  const elsewhere: Array<Citation> = []
  let passesTitles = false
  const suites: Array<string> = []
  const visit = (node: Node): void => {
    if (node["type"] === "ImportDeclaration") {
      const suite = /^@sallyport\/testing\/(\w+)$/.exec(textOf(node["source"]) ?? "")?.[1]
      if (suite !== undefined) suites.push(suite)
      return
    }
    const [first, ...rest] = [node["type"] === "CallExpression" ? node["arguments"] : []].flat()
    const title = isTestFunction(node["callee"]) ? textOf(first) : undefined
    // A file may declare its tests through its own function or table, which passes the titles on.
    passesTitles ||= isTestFunction(node["callee"]) && !isModifier(node["callee"]) && isNode(first) &&
      titleReferences.has(String(first["type"]))
    if (title !== undefined) {
      for (const [id] of title.matchAll(titlePattern)) citations.push({ id, file, title })
      return [node["callee"], ...rest].filter(isNode).forEach(visit)
    }
    const text = textOf(node)
    if (text === undefined) return childrenOf(node).forEach(visit)
    for (const [id] of text.matchAll(idPattern)) elsewhere.push({ id, file, title: text })
  }
  visit({ type: "Root", program: parseAst(await readFile(join(root, file), "utf8"), { lang: "ts" }) })
  return passesTitles
    ? { file, citations: [...citations, ...elsewhere], stray: [], suites }
    : { file, citations, stray: elsewhere, suites }
}

const { values: flags } = parseArgs({
  options: { check: { type: "boolean", default: false }, complete: { type: "boolean", default: false } }
})

const files: Array<string> = []
const patterns = [
  "packages/*/test/**/*.test.ts",
  "{examples/*,faults}/test/**/*.test.ts",
  "test-support/*.test.ts",
  "packages/testing/src/*Suite.ts"
]
for await (const file of glob(patterns, { cwd: root })) files.push(file.replaceAll("\\", "/"))
const sources = await Promise.all(files.sort().map(read))

const called = new Set(sources.flatMap(({ suites }) => suites))
const cited = sources.flatMap((source) => source.citations)
const untested = [...promises.keys()].filter((id) => !cited.some((citation) => citation.id === id))

const problems = [
  ...sources.flatMap(({ stray }) => stray).map(({ file, id, title }) =>
    `${file}: "${title}" cites ${id}, but is not a test's title`
  ),
  ...cited.filter(({ id }) => !promises.has(id)).map(({ file, id, title }) =>
    `${file}: "${title}" cites ${id}, which docs/requirements.json does not list`
  ),
  ...sources.map(({ file }) => basename(file, ".ts")).filter((name) => name.endsWith("Suite") && !called.has(name))
    .map((name) => `packages/testing/src/${name}.ts is called by no test`),
  // A lesson may wait for its code; a promise of the design may not.
  ...untested.filter((id) => flags.complete || (flags.check && !id.startsWith("L-"))).map((id) => `${id} has no test`)
]

// -----------------------------------------------------------------------------
// The rules of OAuth
// -----------------------------------------------------------------------------

interface Rule {
  readonly must: string
  readonly source: string
}

const rules: Readonly<Record<string, Readonly<Record<string, Rule>>>> = JSON.parse(
  await readFile(join(root, "docs", "oauth.json"), "utf8")
)

/** Returns the rows that a title names. */
const rowsOf = (title: string): ReadonlyArray<string> =>
  Array.from(title.matchAll(/(?<=[(,] ?)([CKMRTXZ])(\d+)(?:-[CKMRTXZ](\d+))?(?=[,)])/g)).flatMap((
    [, letter, first, last]
  ) =>
    Array.from({ length: Number(last ?? first) - Number(first) + 1 }, (_, index) => `${letter}${Number(first) + index}`)
  )

const known = Object.values(rules).flatMap(Object.keys)
problems.push(
  ...cited.flatMap(({ file, title }) =>
    rowsOf(title).filter((row) => !known.includes(row)).map((row) =>
      `${file}: "${title}" names ${row}, which docs/oauth.json does not list`
    )
  )
)

const ruleRow = ([id, { must, source }]: readonly [string, Rule]): string => {
  const tests = new Map(
    cited.filter(({ title }) => rowsOf(title).includes(id)).map(({ file, title }) => [title, file] as const)
  )
  if (tests.size === 0) problems.push(`${id} of docs/oauth.json has no test`)
  const links = Array.from(tests, ([title, file]) => {
    const words = title.replace(/^(?:[A-Z]+-\d\d ?)+: /, "").replace(/ \([^()]*\)$/, "")
    return `[${words}](../${file})`
  })
  return `| ${id} | ${must} | ${source} | ${links.join("; ")} |`
}

const rulesPage = [
  "# The rules of OAuth and their tests",
  "",
  "Written by `npm run requirements` from docs/oauth.json and the titles of the tests; don't edit it. What a rule is about is",
  "told in [Programs that sign in by consent](agents.md).",
  "",
  ...Object.entries(rules).flatMap(([section, entries]) => [
    `## ${section}`,
    "",
    "| row | rule | source | test |",
    "| --- | --- | --- | --- |",
    ...Object.entries(entries).map(ruleRow),
    ""
  ])
].join("\n")

// -----------------------------------------------------------------------------
// The promises
// -----------------------------------------------------------------------------

const row = (id: string, promise: string) => {
  const tests = cited.filter((citation) => citation.id === id)
  const testFiles = [...new Set(tests.map(({ file }) => file))]
  return [
    `**${id}** ${promise}`,
    "",
    ...testFiles.flatMap((file) => [
      `- [${file}](../${file})`,
      ...[...new Set(tests.filter((test) => test.file === file).map(({ title }) => title))].map((title) =>
        `  - ${title.replaceAll(/([\\*_<>`[\]])/g, "\\$1")}`
      )
    ]),
    ...tests.length === 0 ? ["- not yet"] : [],
    ""
  ]
}

const text = [
  "# Promises and their tests",
  "",
  "Written by `npm run requirements` from the titles of the tests; don't edit it. A file named `*Suite.ts` is a contract",
  "that runs against every adapter.",
  "",
  `${promises.size - untested.length} of ${promises.size} promises have a test.`,
  "",
  ...Object.entries(sections).flatMap(([section, entries]) => [
    `## ${section}`,
    "",
    ...Object.entries(entries).flatMap(([id, promise]) => row(id, promise))
  ])
].join("\n")

for (const [name, content] of [["requirements.md", text], ["oauth.md", rulesPage]] as const) {
  const path = join(root, "docs", name)
  if (!flags.check) await writeFile(path, content)
  else if (await readFile(path, "utf8").catch(() => "") !== content) {
    problems.push(`docs/${name} is stale; run: npm run requirements`)
  }
}
for (const problem of problems) process.stdout.write(`${problem}\n`)
process.stdout.write(`${promises.size - untested.length} of ${promises.size} promises have a test\n`)
process.exitCode = problems.length === 0 ? 0 : 1
