/**
 * Builds the pages of `@sallyport/web` into one module, unless it is newer than all that it is built from. Prints a line if
 * it builds. The test run calls `setup` once.
 *
 * The module is replaced whole, so that a server that starts meanwhile has the pages of before or those of now.
 */
import { glob, mkdir, readdir, rename, stat, utimes, writeFile } from "node:fs/promises"
import { join, parse } from "node:path"
import { gzipSync } from "node:zlib"

const root = join(import.meta.dirname, "..")
const web = join(root, "packages/web")
const output = join(web, "dist/internal")
const module = join(output, "pages.js")

const sources = [
  "package-lock.json",
  "scripts/{annotate,pages}.ts",
  "packages/web/pages/**/*.{tsx,css}",
  "packages/{react,client,contract,core}/src/**/*.{ts,tsx,css}"
]

const changedAt = async (path: string) => (await stat(path)).mtimeMs

const isFresh = async () => {
  const builtAt = await changedAt(module).catch(() => 0)
  for await (const source of glob(sources, { cwd: root })) {
    if (await changedAt(join(root, source)) > builtAt) return false
  }
  return true
}

/** Builds the files: each by its name, which changes with its content, and the name of the one that a page begins with. */
const files = async () => {
  // Only who builds needs it.
  const { build } = await import("vite")
  const { annotated } = await import("./annotate.ts")
  const entries = (await readdir(join(web, "pages"))).filter((name) => name !== "page.tsx")
  const built = await build({
    root: web,
    configFile: false,
    logLevel: "error",
    resolve: { conditions: ["sallyport-source", "module", "browser"] },
    plugins: [annotated],
    // Whatever the environment is called, the pages are built for production.
    oxc: { jsx: { runtime: "automatic", development: false } },
    define: { "process.env.NODE_ENV": JSON.stringify("production") },
    build: {
      write: false,
      modulePreload: false,
      // A host has its own files in `assets`, as Vite calls them.
      assetsDir: "sallyport",
      assetsInlineLimit: 0,
      target: "es2022",
      rolldownOptions: { input: entries.map((name) => join(web, "pages", name)) }
    }
  })
  const pages: {
    begin: Record<string, string>
    files: Record<string, { content: string; gzip: string }>
  } = { begin: {}, files: {} }
  for (const result of [built].flat()) {
    if (!("output" in result)) continue
    for (const file of result.output) {
      const content = file.type === "chunk" ? file.code : String(file.source)
      // No platform has to compress when it serves them.
      pages.files[file.fileName] = { content, gzip: gzipSync(content, { level: 9 }).toString("base64") }
      const name = file.type === "chunk" ? file.isEntry && file.name : parse(file.names[0] ?? "").name
      if (name !== false) pages.begin[name] = file.fileName
    }
  }
  return pages
}

/** Builds the pages if they are not there, or older than their sources. */
export const setup = async () => {
  if (await isFresh()) return
  const begin = new Date()
  await mkdir(output, { recursive: true })
  const next = `${module}.${process.pid}`
  await writeFile(next, `export default ${JSON.stringify(await files())}\n`)
  // Its time is when the build began: a source that changed meanwhile is newer.
  await utimes(next, begin, begin)
  await rename(next, module)
  process.stderr.write(`Built the pages in ${Date.now() - begin.getTime()} ms.\n`)
}

if (import.meta.main) {
  await setup().catch((error) => {
    process.stderr.write(
      `The pages cannot be built: ${error.message}\nRun \`npm run pages\` as a user who may write below ${web}.\n`
    )
    process.exitCode = 1
  })
}
