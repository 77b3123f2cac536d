/**
 * Completes the lockfiles, ours and that of the benchmarks, after npm has written them: adds the platform packages that
 * npm left out, so that `npm ci` accepts them on every machine. `--check` fails instead of writing, and also if a
 * lockfile holds a download address.
 *
 * If a registry does not serve an optional package, `npm install` silently leaves it out of the lockfile, and `npm ci`
 * then refuses the lockfile, on that registry and on any other.
 */
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"

interface Entry {
  readonly version?: string | undefined
  readonly resolved?: string | undefined
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

  const missing = Object.keys(added)
  if (process.argv.includes("--check")) {
    problems.push(...missing.map((path) => `${name}: ${path} is missing; run: npm run lockfile`))
  } else if (missing.length > 0) {
    const packages = Object.fromEntries(
      Object.entries({ ...lock.packages, ...added }).sort(([a], [b]) => a.localeCompare(b, "en"))
    )
    await writeFile(file, `${JSON.stringify({ ...lock, packages }, null, 2)}\n`)
    process.stdout.write(`${name}: added ${missing.length} platform packages\n`)
  }
}

await complete("package-lock.json")
await complete("benchmarks/package-lock.json")
for (const problem of problems) process.stdout.write(`${problem}\n`)
process.exitCode = problems.length === 0 ? 0 : 1
