/**
 * Counts the words that the house rules out, and the exports without a complete doc comment.
 *
 * Prints each as `file:line`, then the counts; the exit code is 1 if there are too many. Folders given as arguments restrict
 * the search: `npm run words -- packages/core`.
 */
import { glob, readFile } from "node:fs/promises"
import { dirname, join } from "node:path/posix"
import { parseAst } from "vitest/node"

const root = join(import.meta.dirname.replaceAll("\\", "/"), "..")
const only = process.argv.slice(2).map((folder) => folder.replace(/^\.\/|\/$/g, ""))

/** How many of a thousand lines of prose may use `where` for a condition. The rule below errs on the strict side. */
const conditionsPerThousand = 5

/**
 * Matches what stands before a `where` that is a place: a word that asks for one, or the place itself. Any other `where` is
 * taken for a condition, which is better said with `if`, `when` or `unless`.
 */
const beforePlace = new RegExp(
  `(?:#|\\b(?:${
    [
      "from|to|of|about|exactly|no matter",
      "say|tell|know|name|show|find|decide|choose|choosing|remember|describe|check|record|learn|see|ask|read|is|list",
      "configure|continue|goe|return|script|differ",
      "place|table|folder|file|row|column|module|line|directory|address|position|point|page|field"
    ].join("|")
  })s?) $`,
  "i"
)

/** Matches a `where` that is a place by what follows it: `where to look`, `say where.`, the head of a column. */
const asPlace = /^where(?: to |[.,;:?]| \|)/i

/**
 * Matches a word that is banned wherever it stands: in prose, in text for people, in a title and in a name. One word in
 * quotes is a value.
 */
const banned = new RegExp(
  ["(?:no|some|any)body", "who(?:ever)", "a(?:new)", "is to(?: be)", "for (?:who)(?!\\w)", "such as that(?: of)"]
    .map((words) => `\\b${words.replaceAll(" ", "[\\s*/]+")}\\b(?!(?<="\\w+)")`).join("|"),
  "gi"
)

const hits = { condition: Array<string>(), banned: Array<string>(), export: Array<string>() }

/** Keeps the lines of a text and drops what is no prose: blocks of code, and what stands in backticks. */
const withoutCode = (text: string): string =>
  text.replaceAll(/^ *```[^]*?^ *```/gm, (block) => block.replaceAll(/[^\n]/g, ""))
    .replaceAll(/`[^`\n]*`/g, "code")

/** Returns the comments of a source, each on its line, the other lines empty. */
const commentsOf = (source: string): string =>
  source.split("\n").map((line) => /^\s*(?:\/\*\*?|\*\/?|\/\/)(.*)|\s\/\/ (.*)/.exec(line)?.slice(1).join("") ?? "")
    .map((line) => line.replace(/\*\/$/, "").trim()).join("\n")

const report = (kind: keyof typeof hits, file: string, text: string, index: number, what: string) =>
  hits[kind].push(`${file}:${text.slice(0, index).split("\n").length}: ${what}`)

const findBanned = (file: string, text: string) => {
  for (const { 0: word, index } of text.matchAll(banned)) {
    report("banned", file, text, index, `says "${word.replaceAll(/[\s*/]+/g, " ")}"`)
  }
}

const findConditions = (file: string, prose: string) => {
  for (const { index } of prose.matchAll(/\b[Ww]here\b/g)) {
    const before = prose.slice(Math.max(0, index - 40), index).replaceAll(/\s+/g, " ")
    const after = prose.slice(index, index + 40).replaceAll(/\s+/g, " ")
    // A comment may name the place that it is about: `Where runs are kept.`
    const names = /(?:^|\n)\n$/.test(prose.slice(0, index)) && /^Where [^,]*?(?:[.:]|\n\n)/.test(prose.slice(index))
    if (names || asPlace.test(after)) continue
    if (beforePlace.test(before) && !/^where (?:none|absent|nothing|there) /i.test(after)) continue
    report("condition", file, prose, index, `"${before.slice(-20)}${after}"`)
  }
}

type Declared = readonly [name: string, start: number]

/** Reads what a module exports: what it declares itself, and by module what it takes from `internal`. */
const exportsOf = (file: string, source: string) => {
  const declared: Array<Declared> = []
  const taken: Array<readonly [module: string, name: string]> = []
  for (const statement of parseAst(source, { lang: file.endsWith("x") ? "tsx" : "ts" }).body) {
    if (statement.type !== "ExportNamedDeclaration") continue
    const declaration = statement.declaration
    if (declaration?.type === "VariableDeclaration") {
      for (const { id } of declaration.declarations) {
        if (id.type === "Identifier") declared.push([id.name, statement.start])
      }
    } else if (declaration != null && "id" in declaration && declaration.id?.type === "Identifier") {
      declared.push([declaration.id.name, statement.start])
    }
    const module = statement.source?.value
    if (module?.includes("internal/") !== true) continue
    for (const { local } of statement.specifiers) if (local.type === "Identifier") taken.push([module, local.name])
  }
  return { declared, taken }
}

/** Says what a doc comment lacks. */
const lacks = (doc: string | undefined): ReadonlyArray<string> =>
  doc === undefined ? ["a doc comment"] : [
    ...!/^\/\*\*\s+(?:\* )?(?:[A-Z][a-z]+s\b|@see )/.test(doc)
      ? ["a first sentence that begins with a verb, as in: Returns …"]
      : [],
    ...["@category [A-Za-z ]+", "@since \\d+\\.\\d+\\.\\d+"].filter((tag) => !new RegExp(` \\* ${tag}\\n`).test(doc))
      .map((tag) => tag.replace(/ .*/, ""))
  ]

const checkExports = async (file: string, source: string, names?: ReadonlySet<string>): Promise<void> => {
  const { declared, taken } = exportsOf(file, source)
  for (const [name, start] of declared.filter(([name]) => names?.has(name) !== false)) {
    const doc = /\/\*\*(?:[^*]|\*(?!\/))*\*\/\s*$/.exec(source.slice(0, start))?.[0]
    for (const lack of lacks(doc)) report("export", file, source, start, `${name} lacks ${lack}`)
  }
  for (const module of new Set(taken.map(([module]) => module))) {
    const internal = join(dirname(file), module)
    const moduleNames = new Set(taken.filter(([from]) => from === module).map(([, name]) => name))
    await checkExports(internal, await readFile(join(root, internal), "utf8"), moduleNames)
  }
}

const patterns = [
  "{packages,examples}/*/{src,test}/**/*.{ts,tsx}",
  "{benchmarks/src,faults,scripts,test-support}/**/*.ts",
  "{packages,examples}/*/*.md",
  "*.md",
  "docs/**/*.md"
]
const generated = ["docs/requirements.md", "docs/oauth.md"]

const files: Array<string> = []
for await (const entry of glob(patterns, { cwd: root })) files.push(entry.replaceAll("\\", "/"))
let proseLines = 0

for (const file of files.sort()) {
  if (generated.includes(file)) continue
  if (only.length > 0 && !only.some((folder) => file === folder || file.startsWith(`${folder}/`))) continue
  const text = await readFile(join(root, file), "utf8")
  const prose = withoutCode(file.endsWith(".md") ? text : commentsOf(text))
  proseLines += prose.split("\n").filter((line) => /^[^@]*[a-z]/i.test(line)).length
  findConditions(file, prose)
  findBanned(file, file.endsWith(".md") ? prose : text)
  if (/^packages\/\w[\w-]*\/src\//.test(file) && !/\/(?:internal\/|index\.tsx?$)/.test(file)) {
    await checkExports(file, text)
  }
}

for (const line of Object.values(hits).flat()) process.stdout.write(`${line}\n`)
const allowed = Math.floor(proseLines * conditionsPerThousand / 1000)
process.stdout.write(
  [
    "",
    `${hits.condition.length} conditions with "where" on ${proseLines} lines of prose, of ${allowed} that may be`,
    `${hits.banned.length} banned words`,
    `${hits.export.length} gaps in the doc comments of exports`,
    ""
  ].join("\n")
)
process.exitCode = hits.banned.length + hits.export.length === 0 && hits.condition.length <= allowed ? 0 : 1
