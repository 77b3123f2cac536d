/**
 * Completes the lockfiles of the workspace, the benchmarks and the site after npm has written them: adds the platform
 * packages that npm left out, so that `npm ci` accepts them on every machine, and the `integrity` that one lacks. `--check`
 * asks no registry and fails instead of writing, and also if a lockfile holds a download address.
 *
 * If a registry does not serve an optional package, `npm install` silently leaves it out of the lockfile, and `npm ci`
 * then refuses the lockfile, on that registry and on any other.
 */
import { execFileSync } from "node:child_process"
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

interface Entry {
  readonly version?: string | undefined
  readonly resolved?: string | undefined
  readonly integrity?: string | undefined
  readonly link?: boolean | undefined
  readonly cpu?: ReadonlyArray<string> | undefined
  readonly dev?: boolean | undefined
  readonly libc?: ReadonlyArray<string> | undefined
  readonly license?: string | undefined
  readonly optional?: boolean | undefined
  readonly optionalDependencies?: Readonly<Record<string, string>> | undefined
  readonly os?: ReadonlyArray<string> | undefined
  readonly peer?: boolean | undefined
}

const systems = new Set(["android", "darwin", "freebsd", "linux", "openharmony", "win32"])
const processors = new Set(["arm", "arm64", "ia32", "loong64", "ppc64", "riscv64", "s390x", "x64"])
const abis = new Map([["gnu", "glibc"], ["glibc", "glibc"], ["musl", "musl"]])
const otherAbis = new Set(["eabi", "gnueabihf", "msvc", "musleabihf"])

/**
 * Reads the platform from the name of a package, such as `@oxlint/binding-linux-x64-gnu`; npm compares nothing else.
 */
const platformOf = (name: string) => {
  const words = name.slice(name.indexOf("/") + 1).split("-")
  const from = words.findIndex((word) => systems.has(word))
  const [os, cpu, abi] = from === -1 ? [] : words.slice(from)
  if (os === undefined || cpu === undefined || !processors.has(cpu)) return undefined
  if (abi !== undefined && !abis.has(abi) && !otherAbis.has(abi)) return undefined
  const libc = os === "linux" && abi !== undefined ? abis.get(abi) : undefined
  return { cpu: [cpu], libc: libc === undefined ? undefined : [libc], os: [os] }
}

const problems: Array<string> = []

const nameOf = (path: string): string => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length)

/** Lists the packages that come from a registry and whose content the lockfile does not pin. */
const unpinned = (packages: Readonly<Record<string, Entry>>): ReadonlyArray<readonly [path: string, entry: Entry]> =>
  Object.entries(packages).filter(([path, entry]) =>
    path.includes("node_modules/") && entry.link !== true && entry.integrity === undefined
  )

/** Has npm lock some packages in a folder of their own, and returns the integrity of each that the registry serves. */
const integrityOf = async (
  found: ReturnType<typeof unpinned>
): Promise<ReadonlyArray<readonly [path: string, entry: Entry]>> => {
  const folder = await mkdtemp(join(tmpdir(), "lockfile-"))
  try {
    await cp(join(import.meta.dirname, "..", ".npmrc"), join(folder, ".npmrc"))
    // Under names of their own: a package may be locked in two versions.
    const optionalDependencies = Object.fromEntries(
      found.map(([path, { version }], index) => [`package-${index}`, `npm:${nameOf(path)}@${version}`])
    )
    await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, optionalDependencies }))
    execFileSync("npm", ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"], {
      cwd: folder,
      stdio: ["ignore", "ignore", "inherit"]
    })
    const { packages }: { readonly packages: Readonly<Record<string, Entry>> } = JSON.parse(
      await readFile(join(folder, "package-lock.json"), "utf8")
    )
    return found.flatMap(([path, entry], index) => {
      const integrity = packages[`node_modules/package-${index}`]?.integrity
      if (integrity !== undefined) return [[path, { version: entry.version, integrity, ...entry }]]
      problems.push(
        `${path} has no integrity, as the registry does not serve ${
          nameOf(path)
        }@${entry.version}; choose a version of ` +
          "what needs it whose packages are all served"
      )
      return []
    })
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Completes one lockfile, named from the root. */
const complete = async (name: string): Promise<void> => {
  const file = join(import.meta.dirname, "..", name)
  const lock: { readonly packages: Record<string, Entry> } = JSON.parse(await readFile(file, "utf8"))
  const added: Record<string, Entry> = {}

  for (const [path, entry] of Object.entries(lock.packages)) {
    if (entry.resolved !== undefined && entry.link !== true) {
      problems.push(`${name}: ${path} holds an address: ${entry.resolved}`)
    }
    for (const [needed, version] of Object.entries(entry.optionalDependencies ?? {})) {
      if (`node_modules/${needed}` in lock.packages || `${path}/node_modules/${needed}` in lock.packages) continue
      const platform = platformOf(needed)
      if (platform === undefined || !/^\d/.test(version)) {
        problems.push(
          `${name}: ${path} needs ${needed}@${version}, which is missing and is no platform package of one version`
        )
        continue
      }
      added[`node_modules/${needed}`] = {
        version,
        cpu: platform.cpu,
        dev: entry.dev,
        libc: platform.libc,
        license: entry.license,
        optional: true,
        os: platform.os,
        peer: entry.peer
      }
    }
  }

  const all = { ...lock.packages, ...added }
  const missing = Object.keys(added)
  const bare = unpinned(all)
  if (process.argv.includes("--check")) {
    problems.push(
      ...missing.map((path) => `${name}: ${path} is missing; run: npm run lockfile`),
      ...bare.map(([path]) =>
        `${name}: ${path} has no integrity, so that npm would take any content; run: npm run lockfile`
      )
    )
  } else if (bare.length > 0) {
    const pinned = await integrityOf(bare)
    const packages = Object.fromEntries(
      Object.entries({ ...all, ...Object.fromEntries(pinned) }).sort(([a], [b]) => a.localeCompare(b, "en"))
    )
    await writeFile(file, `${JSON.stringify({ ...lock, packages }, null, 2)}\n`)
    process.stdout.write(`${name}: added ${missing.length} platform packages and the integrity of ${pinned.length}\n`)
  }
}

await complete("package-lock.json")
await complete("benchmarks/package-lock.json")
await complete("site/package-lock.json")
for (const problem of problems) process.stdout.write(`${problem}\n`)
process.exitCode = problems.length === 0 ? 0 : 1
