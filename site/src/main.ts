/**
 * Builds the site into `site/dist`, and fails if it has a dead link or anything to warn of.
 */
import { spawnSync } from "node:child_process"
import { cpSync, globSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path/posix"
import { forAgents } from "./agents.ts"
import { home } from "./home.ts"
import { reference } from "./reference.ts"
import { stage, staged, write } from "./stage.ts"

const site = join(staged, "..")
const dist = join(site, "dist")
const problems: Array<string> = []

const texts = stage()
write("/index", home)
const modules = await reference()
const built = spawnSync(process.execPath, [join(site, "node_modules/vitepress/bin/vitepress.js"), "build", site], {
  encoding: "utf8"
})
const told = built.stdout + built.stderr
if (built.status !== 0 || /\(!\)|warn|falling back/i.test(told)) problems.push(told)

// The text of each page stands beside it, for programs that read.
for (const file of globSync("**/*.md", { cwd: staged })) cpSync(join(staged, file), join(dist, file))
for (const [name, text] of forAgents(texts, modules)) writeFileSync(join(dist, name), text)

/** Finds links to pages and to places in them that are not there. */
const htmlOf = new Map(
  globSync("**/*.html", { cwd: dist }).map((
    file
  ) => [file.replaceAll("\\", "/"), readFileSync(join(dist, file), "utf8")])
)
const files = new Set(globSync("**/*", { cwd: dist }).map((file) => file.replaceAll("\\", "/")))
for (const [file, html] of htmlOf) {
  for (const [, link = ""] of html.matchAll(/ (?:href|src)="([^"]*)"/g)) {
    if (/^(?:https?:|mailto:|data:)/.test(link)) continue
    const [path = "", anchor] = link.split("#")
    const name = path === "" ? file : decodeURI(path).slice(1)
    const target = [name, `${name}.html`, join(name, "index.html")].find((one) => files.has(one) && one.includes("."))
    if (target === undefined) problems.push(`${file} links to ${link}, which is not there`)
    else if (anchor && !htmlOf.get(target)?.includes(` id="${decodeURIComponent(anchor)}"`)) {
      problems.push(`${file} links to ${link}, and ${target} has no such place`)
    }
  }
}

for (const problem of problems) process.stdout.write(`${problem}\n`)
process.stdout.write(`${htmlOf.size} pages, ${problems.length} problems\n`)
process.exitCode = problems.length === 0 ? 0 : 1
