/**
 * Makes one file of the `sallyport` command, with what it needs of other packages: a start then takes less than half of the
 * time and the memory, which go to the loading of hundreds of modules. The licences of what is in it stand beside it.
 */
import { readdir, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")
const cli = join(root, "packages/cli")

/** Returns the directory of the package of others that a module belongs to. */
const packageOf = (module: string) =>
  /^.*\/node_modules\/(@[^/]+\/)?[^/]+(?=\/)/.exec(module.replaceAll("\\", "/"))?.[0]

const licenceOf = async (directory: string) => {
  const { license, name, version } = JSON.parse(await readFile(join(directory, "package.json"), "utf8"))
  const file = (await readdir(directory)).find((file) => /^licen[cs]e/i.test(file))
  if (file === undefined) throw new Error(`${name} has no text of its licence in ${directory}`)
  return `${name} ${version} (${license})\n\n${(await readFile(join(directory, file), "utf8")).trim()}\n`
}

/** Writes the command as `bin.js` into a directory, and what it loads later into `internal/bundled`. */
export const bundle = async (directory: string) => {
  // Only who builds needs it.
  const { build } = await import("vite")
  for (const old of ["internal/bundled", "bin.js.map"]) await rm(join(directory, old), { recursive: true, force: true })
  const conditions = ["sallyport-source", "node", "import"]
  const built = await build({
    root: cli,
    configFile: false,
    logLevel: "error",
    resolve: { conditions },
    ssr: { noExternal: true, resolve: { conditions } },
    build: {
      ssr: "src/bin.ts",
      outDir: directory,
      emptyOutDir: false,
      target: "node22.19",
      minify: false,
      rolldownOptions: {
        // What `ws` takes if it is there.
        external: ["bufferutil", "utf-8-validate"],
        // The comments are those of the sources, which are in the tarball; half of a start's reading would go to them.
        output: { entryFileNames: "bin.js", chunkFileNames: "internal/bundled/[name]-[hash].js", comments: false }
      }
    }
  })
  const modules = [built].flat().flatMap((result) => "output" in result ? result.output : [])
    .flatMap((file) => file.type === "chunk" ? file.moduleIds : [])
  const packages = new Set(modules.flatMap((module) => packageOf(module.replaceAll("\0", "")) ?? []))
  const licences = await Promise.all(Array.from(packages).sort().map(licenceOf))
  await writeFile(join(directory, "internal/bundled/LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`))
}

if (import.meta.main) await bundle(join(cli, "dist"))
