/**
 * Builds the pages of `@sallyport/web` into `packages/web/dist/pages`, unless they are newer than all that they are built
 * from. Prints a line if it builds.
 *
 * Each file has its content's hash in its name, and the manifest is written last, so that a server that starts meanwhile
 * reads the pages of before or those of now. The test run calls `setup` once.
 */
import { glob, mkdir, mkdtemp, readdir, rename, rm, stat, utimes } from "node:fs/promises"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")
const web = join(root, "packages/web")
const output = join(web, "dist/pages")
const manifest = join(output, "manifest.json")

const sources = [
  "package-lock.json",
  "scripts/pages.ts",
  "packages/web/pages/**/*.{tsx,css}",
  "packages/{react,client,contract,core}/src/**/*.{ts,tsx,css}"
]

const changedAt = async (path: string) => (await stat(path)).mtimeMs

const isFresh = async () => {
  const builtAt = await changedAt(manifest).catch(() => 0)
  for await (const source of glob(sources, { cwd: root })) {
    if (await changedAt(join(root, source)) > builtAt) return false
  }
  return true
}

/** Builds the pages if they are not there, or older than their sources. */
export const setup = async () => {
  if (await isFresh()) return
  const begin = new Date()
  await mkdir(join(web, "dist"), { recursive: true })
  const temporary = await mkdtemp(join(web, "dist/pages-"))
  try {
    // Only who builds needs it.
    const { build } = await import("vite")
    const entries = await readdir(join(web, "pages"))
    await build({
      root: web,
      configFile: false,
      logLevel: "error",
      resolve: { conditions: ["sallyport-source", "module", "browser"] },
      // Whatever the environment is called, the pages are built for production.
      oxc: { jsx: { runtime: "automatic", development: false } },
      define: { "process.env.NODE_ENV": JSON.stringify("production") },
      build: {
        outDir: temporary,
        emptyOutDir: true,
        manifest: "manifest.json",
        modulePreload: false,
        assetsInlineLimit: 0,
        target: "es2022",
        rolldownOptions: {
          input: entries.filter((name) => name !== "page.tsx").map((name) => `pages/${name}`)
        }
      }
    })
    const assets = await readdir(join(temporary, "assets"))
    await mkdir(join(output, "assets"), { recursive: true })
    for (const asset of assets) await rename(join(temporary, "assets", asset), join(output, "assets", asset))
    // Its time is when the build began: a source that changed meanwhile is newer.
    const next = join(temporary, "manifest.json")
    await utimes(next, begin, begin)
    await rename(next, manifest)
    for (const old of await readdir(join(output, "assets"))) {
      const path = join(output, "assets", old)
      // One that is newer is of a build at the same time.
      if (!assets.includes(old) && await changedAt(path) < begin.getTime()) await rm(path)
    }
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
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
