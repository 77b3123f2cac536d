/**
 * Marks the calls by which the modules of packages make what they export, so that a bundler leaves out what a program does
 * not use: it cannot know that `Layer.effect(…)` or `Schema.Struct(…)` does nothing else. Without it a page would be sent the
 * server's store of secrets, because a layer that it does not use could be built on it.
 */
import { readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { parseAst, type Plugin } from "vite"

interface Node {
  readonly type: string
  readonly start: number
}

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && "type" in value && "start" in value

const mark = "/* @__PURE__ */ "

/** Marks the calls in the declarations of a module; what functions do when they are called is left alone. */
export const annotate = (code: string): string => {
  const places = new Set<number>()
  const walk = (node: Node, isDeclared: boolean): void => {
    if (/Function/.test(node.type)) return
    if (isDeclared && /^(Call|New)Expression$/.test(node.type)) places.add(node.start)
    // A call that stands by itself is there for what it does.
    const declares = node.type !== "ExpressionStatement" &&
      (isDeclared || /^(Variable|Class)Declaration$|^ExportDefault/.test(node.type))
    for (const child of Object.values(node).flat()) if (isNode(child)) walk(child, declares)
  }
  walk(parseAst(code), false)
  let annotated = ""
  let from = 0
  for (const place of Array.from(places).sort((a, b) => a - b)) {
    annotated += code.slice(from, place)
    if (!annotated.endsWith(mark)) annotated += mark
    from = place
  }
  return annotated + code.slice(from)
}

const packages = join(import.meta.dirname, "../packages/")

/** Marks the sources of packages for a build by Vite, which then leaves out of them what it leaves out of what is published. */
export const annotated: Plugin = {
  name: "annotated",
  enforce: "post",
  transform: (code, id) =>
    id.startsWith(packages) && /\.tsx?$/.test(id) ? { code: annotate(code), map: null } : undefined
}

/** Marks what is built into a directory. The lines of its maps stay right; columns after a mark are off by its length. */
export const annotateDirectory = async (directory: string) => {
  for (const entry of await readdir(directory, { recursive: true })) {
    if (!entry.endsWith(".js")) continue
    const file = join(directory, entry)
    const code = await readFile(file, "utf8")
    await writeFile(file, annotate(code))
  }
}

if (import.meta.main) {
  for (const name of await readdir(packages)) await annotateDirectory(join(packages, name, "dist"))
}
