/**
 * Builds the packages and packs them into a folder, from where a project installs them for as long as no registry has them.
 *
 * `npm run pack -- FOLDER` packs all of them, and `npm run pack -- FOLDER http client` those named, with what they need of
 * ours.
 */
import { execFile } from "node:child_process"
import { mkdir, readdir, readFile, rm } from "node:fs/promises"
import { basename, join, resolve } from "node:path"
import { promisify } from "node:util"
import { annotateDirectory } from "./annotate.ts"
import { bundle } from "./bundle.ts"
import { setup as pages } from "./pages.ts"

export interface Manifest {
  readonly name: string
  readonly version: string
  readonly description?: string
  readonly keywords?: ReadonlyArray<string>
  readonly license?: string
  readonly type?: string
  readonly private?: boolean
  readonly sideEffects?: unknown
  readonly bin?: Readonly<Record<string, string>>
  readonly files?: ReadonlyArray<string>
  readonly engines?: Readonly<Record<string, string>>
  readonly exports?: Readonly<Record<string, unknown>>
  readonly imports?: Readonly<Record<string, unknown>>
  readonly scripts?: Readonly<Record<string, string>>
  readonly publishConfig?: Readonly<Record<string, unknown>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
}

const run = promisify(execFile)
const maxBuffer = 16_000_000

/** The directory of the repository. */
export const root = join(import.meta.dirname, "..")

/** The directory of a package, by the name after `@sallyport/`. */
export const directoryOf = (name: string) => join(root, "packages", name)

export const readManifest = async (directory: string): Promise<Manifest> =>
  JSON.parse(await readFile(join(directory, "package.json"), "utf8"))

/** The names after `@sallyport/` of all packages. */
export const names = async (): Promise<ReadonlyArray<string>> => (await readdir(join(root, "packages"))).sort()

/** Builds every package from nothing, so that the tarballs have nothing of a deleted source. */
export const build = async () => {
  for (const name of await names()) await rm(join(directoryOf(name), "dist"), { recursive: true, force: true })
  await run("tsc", ["-b", "tsconfig.build.json"], { cwd: root, maxBuffer })
  for (const name of await names()) await annotateDirectory(join(directoryOf(name), "dist"))
  await pages()
  await bundle(join(directoryOf("cli"), "dist"))
}

/** Adds the packages that the named ones depend on. */
export const withNeeded = async (wanted: Iterable<string>): Promise<ReadonlySet<string>> => {
  const needed = new Set(wanted)
  for (const name of needed) {
    const { dependencies = {} } = await readManifest(directoryOf(name))
    for (const dependency of Object.keys(dependencies)) {
      if (dependency.startsWith("@sallyport/")) needed.add(basename(dependency))
    }
  }
  return needed
}

export interface Tarball {
  readonly path: string
  /** Its size in bytes. */
  readonly size: number
}

/** Packs a package that is built. */
export const pack = async (name: string, folder: string): Promise<Tarball> => {
  const { stdout } = await run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], {
    cwd: directoryOf(name),
    maxBuffer
  })
  const packed: unknown = JSON.parse(stdout)
  const [{ filename, size }] = Array.isArray(packed) ? packed : Object.values(packed ?? {})
  return { path: join(folder, basename(filename)), size }
}

if (import.meta.main) {
  const [folder, ...wanted] = process.argv.slice(2)
  const known = await names()
  const unknown = wanted.filter((name) => !known.includes(name))
  if (folder === undefined || unknown.length > 0) {
    process.stderr.write(
      folder === undefined
        ? "Name the folder for the tarballs: npm run pack -- ../my-server/vendor\n"
        : `There is no package ${unknown.join(", ")}. These are: ${known.join(", ")}\n`
    )
    process.exitCode = 1
  } else {
    const destination = resolve(folder)
    await mkdir(destination, { recursive: true })
    process.stderr.write("Compiling all packages, which takes a minute or so.\n")
    await build()
    for (const name of wanted.length === 0 ? known : Array.from(await withNeeded(wanted)).sort()) {
      const { path, size } = await pack(name, destination)
      process.stdout.write(`${path} (${Math.ceil(size / 1024)} KiB)\n`)
    }
  }
}
