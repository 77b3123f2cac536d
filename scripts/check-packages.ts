/**
 * Checks the packages as they would be published: builds them, packs them, and uses the tarballs as another project
 * would.
 *
 * Every check prints one line. The last line counts them, and the exit code is 1 if one of them failed.
 */
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { rmSync } from "node:fs"
import { cp, mkdir, mkdtemp, readdir, readFile, rename, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { availableParallelism, homedir, tmpdir } from "node:os"
import { basename, join, normalize } from "node:path"
import { createInterface } from "node:readline"
import { promisify } from "node:util"
import { gzipSync } from "node:zlib"
import { publint } from "publint"
import { formatMessage } from "publint/utils"
import { build as bundle } from "vite"
import * as Addresses from "./addresses.ts"
import { build, directoryOf, type Manifest, names, pack, readManifest, root, withNeeded } from "./pack.ts"

interface Package {
  readonly directory: string
  readonly manifest: Manifest
  readonly tarball: string
  /** The size of the tarball in bytes. */
  readonly size: number
  /** The unpacked tarball. */
  readonly unpacked: string
  /** Every file of the tarball, relative to it. */
  readonly files: ReadonlyArray<string>
  /** The specifiers that the manifest's exports promise to an importer. */
  readonly entries: ReadonlyArray<string>
}

const run = promisify(execFile)
const print = (line: string) => void process.stdout.write(`${line}\n`)

let passed = 0
let failed = 0

/**
 * Runs a check and prints its line. A check passes when it finds no problems.
 */
const check = async (title: string, find: () => Promise<ReadonlyArray<string>>) => {
  let problems: ReadonlyArray<string>
  try {
    problems = await find()
  } catch (error) {
    problems = [describe(error)]
  }
  if (problems.length === 0) {
    passed++
    print(`ok      ${title}`)
  } else {
    failed++
    print(`FAILED  ${title}`)
    for (const problem of problems) print(`          ${problem.trim().replaceAll("\n", "\n          ")}`)
  }
  return problems.length === 0
}

/** Does jobs in their order, as many at once as there are processors: most of them wait for another process. */
const together = async <A>(jobs: ReadonlyArray<() => Promise<A>>): Promise<ReadonlyArray<A>> => {
  const results: Array<A> = []
  const left = jobs.entries()
  const work = async () => {
    for (const [index, job] of left) results[index] = await job()
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  return results
}

/** A command that failed may explain itself on standard output or on standard error. */
const describe = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  const output = ["stdout", "stderr"].map((key) => String(Reflect.get(error, key) ?? "")).join("\n").trim()
  return output === "" ? error.message : output
}

const filesBelow = async (directory: string) =>
  (await readdir(directory, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1).replaceAll("\\", "/"))
    .sort()

/** Tells whether a module is closed to importers: `internal/…`, or `<capability>/internal/…`. */
const isInternal = (path: string): boolean => /^(\w+\/)?internal\//.test(path)

const packAndOpen = async (name: string, temporary: string): Promise<Package> => {
  const directory = directoryOf(name)
  const manifest = await readManifest(directory)
  const { path: tarball, size } = await pack(name, temporary)
  const unpacked = join(temporary, "unpacked", name)
  await mkdir(unpacked, { recursive: true })
  await run("tar", ["-xzf", tarball, "-C", unpacked, "--strip-components=1"])
  const files = await filesBelow(unpacked)
  const modules = files.flatMap((file) => /^dist\/(\w+(?:\/\w+)?)\.js$/.exec(file)?.[1] ?? [])
    .filter((name) => !isInternal(name))
  const closed = Object.entries(manifest.exports ?? {}).flatMap(([path, target]) => target === null ? [path] : [])
  const entries = modules
    .map((name) => name === "index" ? "." : `./${name.replace(/\/index$/, "")}`)
    .filter((entry) => !closed.includes(entry))
    .map((entry) => entry === "." ? manifest.name : `${manifest.name}${entry.slice(1)}`)
  return { directory, manifest, tarball, size, unpacked, files, entries }
}

/** Starts the server of the command with nothing else installed, so that all of it is in its own files. */
const startsAlone = async ({ unpacked }: Package, temporary: string) => {
  const alone = join(temporary, "alone")
  await cp(join(unpacked, "dist"), join(alone, "dist"), { recursive: true })
  await writeFile(join(alone, "package.json"), `{ "type": "module" }`)
  const server = spawn(
    process.execPath,
    [join("dist", "bin.js"), "serve", "--port", "0", "--json", "--state-dir", join(alone, "state")],
    { cwd: alone, env: { ...process.env, NODE_OPTIONS: "" }, stdio: ["ignore", "pipe", "pipe"] }
  )
  let said = ""
  server.stderr.setEncoding("utf8").on("data", (text: string) => said += text)
  const ended = once(server, "close")
  const line = await Promise.race([once(createInterface(server.stdout), "line"), ended.then(() => undefined)])
  if (line === undefined) return [said]
  const { url } = JSON.parse(String(line[0]))
  // The page comes from a file that is loaded when it is asked for.
  const answers = await Promise.all(["api/health/ready", "pair"].map((path) => fetch(new URL(path, url))))
    .finally(() => server.kill("SIGTERM"))
  await ended
  return answers.flatMap(({ status, url }) => status === 200 ? [] : [`${url} answered ${status}`])
}

const metadata = async ({ directory, files, manifest, unpacked }: Package) => {
  const { devDependencies: pinned = {} } = await readManifest(root)
  const problems: Array<string> = []
  const expect = (holds: boolean, problem: string) => void (holds || problems.push(problem))
  expect(manifest.name === `@sallyport/${basename(directory)}`, "name: @sallyport/ and the name of the directory")
  expect(/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(manifest.version), "version: a semantic version")
  expect((manifest.description ?? "").length >= 20, "description: a sentence")
  expect((manifest.keywords ?? []).includes("effect"), "keywords: what people look for, effect among it")
  expect(manifest.license === "MIT", "license: MIT")
  expect(manifest.type === "module", "type: module")
  expect(manifest.private !== true, "private: must not be set")
  expect(Array.isArray(manifest.files), "files: must list what is published")
  expect(manifest.sideEffects === false, "sideEffects: false")
  expect(manifest.engines?.["node"] === ">=22.19.0", "engines.node: >=22.19.0")
  expect(manifest.exports?.["./internal/*"] === null, `exports: "./internal/*" must be null`)
  expect(manifest.publishConfig?.["access"] === "public", "publishConfig.access: public")
  expect(manifest.publishConfig?.["provenance"] === true, "publishConfig.provenance: true")
  expect(manifest.scripts === undefined, "scripts: nothing may run when the package is installed")
  expect(manifest.peerDependencies?.["effect"] === `^${pinned["effect"]}`, "peerDependencies.effect: ^ the tested one")
  for (const [name, range] of Object.entries(manifest.dependencies ?? {})) {
    const exact = name.startsWith("@sallyport/") ? manifest.version : pinned[name]
    expect(/^\d/.test(range), `dependencies.${name}: an exact version, not ${range}`)
    expect(exact === undefined || exact === range, `dependencies.${name}: ${range} is not the tested version ${exact}`)
  }
  for (const [name, file] of Object.entries(manifest.bin ?? {})) {
    const text = await readFile(join(unpacked, file), "utf8")
    expect(text.startsWith("#!/usr/bin/env node\n"), `bin.${name}: ${file} must begin with #!/usr/bin/env node`)
  }
  expect(files.includes("README.md"), "README.md is missing")
  expect(
    (await readFile(join(unpacked, "CHANGELOG.md"), "utf8").catch(() => "")).includes(`\n## ${manifest.version}\n`),
    `CHANGELOG.md must have ${manifest.version}`
  )
  expect(
    files.includes("LICENSE") &&
      await readFile(join(unpacked, "LICENSE"), "utf8") === await readFile(join(root, "LICENSE"), "utf8"),
    "LICENSE must be the one of the repository"
  )
  return problems
}

/**
 * Every source is there with its JavaScript, declarations and maps, and the files that `exports` names, and nothing else is.
 */
const contents = async ({ directory, files, manifest }: Package) => {
  const sources = (await filesBelow(join(directory, "src"))).map((file) => `src/${file}`)
  const expected = new Set([
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "package.json",
    ...Object.values(manifest.exports ?? {}).flatMap((target) =>
      typeof target === "string" ? [target.replace(/^\.\//, "")] : []
    ),
    ...sources,
    // What is built from the pages.
    ...files.filter((file) => manifest.imports?.["#pages"] === `./${file}`),
    ...sources.filter((file) => /(?<!\.d)\.tsx?$/.test(file)).flatMap((file) => {
      const stem = file.replace(/^src\//, "dist/").replace(/\.tsx?$/, "")
      return [".js", ".js.map", ".d.ts", ".d.ts.map"].map((extension) => stem + extension)
    })
  ])
  // The command is one file, which has no map, and what that loads later: `scripts/bundle.ts`.
  const bundled = files.filter((file) => file.startsWith("dist/internal/bundled/"))
  if (bundled.length > 0) expected.delete("dist/bin.js.map")
  for (const file of bundled) expected.add(file)
  return [
    ...[...expected].filter((file) => !files.includes(file)).map((file) => `${file} is missing`),
    ...files.filter((file) => !expected.has(file)).map((file) => `${file} does not belong there`)
  ]
}

const machinePaths = async ({ files, unpacked }: Package) => {
  const forbidden = [root, `${homedir()}/`, "/home/", "/Users/", "file:///"]
  const problems: Array<string> = []
  for (const file of files) {
    const text = await readFile(join(unpacked, file), "utf8")
    for (const path of forbidden) if (text.includes(path)) problems.push(`${file} holds ${path}`)
  }
  return problems
}

/** The tarballs' pages lead to what is in the tarball or to an address: no registry knows the rest of the repository. */
const links = async ({ files, unpacked }: Package) => {
  const problems: Array<string> = []
  for (const file of files.filter((path) => path.endsWith(".md"))) {
    for (const [, target = ""] of (await readFile(join(unpacked, file), "utf8")).matchAll(/\]\(([^)\s]+)\)/g)) {
      const [path = ""] = target.split("#")
      if (path === "" || /^https?:/.test(path) || files.includes(normalize(path))) continue
      problems.push(`${file} links to ${target}, which is not in the tarball`)
    }
  }
  return problems
}

/** The largest size of each tarball, in KiB: some 15 % above what it has. */
const largestTarballs: Readonly<Record<string, number>> = {
  cli: 1300,
  client: 135,
  connect: 105,
  contract: 90,
  core: 870,
  "durable-streams": 195,
  http: 220,
  interop: 95,
  node: 45,
  pg: 35,
  react: 170,
  "sqlite-node": 40,
  testing: 310,
  web: 510
}

/** The largest size of the program of the client's README for browsers, in KiB of gzip. */
const largestBundle = 95

const tooLarge = (what: string, bytes: number, largest: number | undefined): ReadonlyArray<string> => {
  const size = Math.ceil(bytes / 1024)
  return largest !== undefined && size <= largest
    ? []
    : [`${what} has ${size} KiB, and may have ${largest}: find out what came in, or raise the bound in this file`]
}

/** Bundles the first program of the client's README as a page would load it, and returns its size after gzip. */
const bundleOfClient = async (client: Package, consumer: string): Promise<number> => {
  const [program = ""] = programsOf(await readFile(join(client.unpacked, "README.md"), "utf8"))
  const entry = join(consumer, "page.ts")
  await writeFile(entry, program)
  const built = await bundle({
    root: consumer,
    configFile: false,
    logLevel: "error",
    build: { write: false, target: "es2023", rolldownOptions: { input: entry } }
  })
  return [built].flat().flatMap((result) => "output" in result ? result.output : []).reduce(
    (bytes, file) => bytes + gzipSync(file.type === "chunk" ? file.code : file.source, { level: 9 }).length,
    0
  )
}

/** The JavaScript and the declarations import only packages that the manifest declares. */
const dependencies = async ({ files, manifest, unpacked }: Package) => {
  const imported = new Map<string, string>()
  const problems: Array<string> = []
  for (const file of files.filter((path) => /^dist\/.*\.(js|d\.ts)$/.test(path))) {
    const text = (await readFile(join(unpacked, file), "utf8")).replaceAll(/^\s*(\/?\*|\/\/).*$/gm, "")
    const specifiers = [
      ...text.matchAll(/^(?:import|export)\b[^"']*?\bfrom\s*["']([^"']+)["']/gm),
      ...text.matchAll(/^import\s*["']([^"']+)["']/gm),
      ...text.matchAll(/\bimport\(\s*["']([^"']+)["']/g),
      ...text.matchAll(/\bimport\.meta\.resolve\(\s*["']([^"']+)["']/g)
    ].flatMap((match) => match[1] ?? [])
    for (const specifier of specifiers) {
      if (specifier.startsWith("node:") || specifier in (manifest.imports ?? {})) continue
      if (specifier.startsWith(".")) {
        // The declarations keep the `.ts` of the sources, which TypeScript resolves to the `.d.ts` beside them.
        if (file.endsWith(".js") && !specifier.endsWith(".js")) problems.push(`${file} imports ${specifier}`)
        continue
      }
      if (specifier.includes("/internal/")) problems.push(`${file} imports ${specifier}`)
      const name = specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/")
      if (name !== manifest.name) imported.set(name, file)
    }
  }
  const declared = new Set(
    [manifest.dependencies, manifest.peerDependencies, manifest.optionalDependencies].flatMap((record) =>
      Object.keys(record ?? {})
    )
  )
  for (const [name, file] of imported) {
    if (!declared.has(name)) problems.push(`${file} imports ${name}, which is not declared`)
  }
  // What dependencies ask of their user; vitest is what @effect/vitest asks.
  const asked = new Set(declared.has("@effect/vitest") ? ["vitest"] : [])
  for (const name of Object.keys(manifest.dependencies ?? {}).filter((name) => name.startsWith("@sallyport/"))) {
    const { peerDependencies = {} } = await readManifest(join(root, "packages", basename(name)))
    for (const peer of Object.keys(peerDependencies)) asked.add(peer)
  }
  for (const name of declared) {
    if (!imported.has(name) && !asked.has(name)) problems.push(`${name} is declared, but not imported`)
  }
  return problems
}

const lintPublication = async ({ tarball }: Package) => {
  const { buffer } = new Uint8Array(await readFile(tarball))
  const { messages, pkg } = await publint({ pack: { tarball: buffer }, strict: true })
  return messages.map((message) => `${message.type}: ${formatMessage(message, pkg, { color: false }) ?? message.code}`)
}

const lintTypes = async ({ entries, manifest, tarball }: Package) => {
  const entrypoints = entries.map((entry) => entry === manifest.name ? "." : entry.slice(manifest.name.length + 1))
  await run("attw", [
    tarball,
    "--profile",
    "esm-only",
    "--format",
    "ascii",
    "--no-color",
    "--no-emoji",
    "--no-definitely-typed",
    "--entrypoints",
    ...entrypoints
  ], { maxBuffer: 16_000_000 })
  return []
}

/** The programs in a page's code fences, as the reader would paste them. */
const programsOf = (markdown: string) =>
  [...markdown.matchAll(/^```ts\n(.*?)^```$/gms)].flatMap((match) => match[1] ?? [])

/** The test file of a project that has an adapter for every port. */
const strangersTest = `
import { NodeCrypto } from "@effect/platform-node"
import * as Connect from "@sallyport/connect"
import * as Core from "@sallyport/core"
import * as Streams from "@sallyport/durable-streams"
import * as Suites from "@sallyport/testing"
import { Layer } from "effect"

const layer = Layer.provideMerge(
  Layer.mergeAll(
    Core.Repositories.layerMemory,
    Connect.RelayEnvironmentRepository.layerMemory,
    Connect.RelayProofRepository.layerMemory,
    Streams.DurableStreamRepository.layerMemory,
    Streams.StreamSubscriptionRepository.layerMemory,
    Core.AccessRepository.layerMemory,
    Core.SecretStore.layerMemory
  ),
  NodeCrypto.layer
)
for (const [module, { suite }] of Object.entries(Suites)) if (module.endsWith("Suite")) suite("a stranger's", layer)
`

/** Makes a project that depends on the tarballs, and on nothing else of this repository. */
const makeConsumer = async (packages: ReadonlyArray<Package>, directory: string) => {
  // A peer that only one package has is pinned by that package.
  const pinned: Readonly<Record<string, string>> = Object.assign(
    {},
    ...packages.map(({ manifest }) => manifest.devDependencies),
    (await readManifest(root)).devDependencies
  )
  const peers = new Set(packages.flatMap(({ manifest }) => Object.keys(manifest.peerDependencies ?? {})))
  const tools = ["@effect/platform-node", "@types/node", "@types/react", "typescript"]
  await mkdir(directory)
  await writeFile(
    join(directory, "package.json"),
    JSON.stringify({
      name: "consumer",
      private: true,
      type: "module",
      dependencies: Object.fromEntries([
        ...[...peers, ...tools].map((name) => [name, pinned[name]]),
        ...packages.map(({ manifest, tarball }) => [manifest.name, `file:${tarball}`])
      ])
    })
  )
  // Everything from the registry is in npm's cache, from where `npm ci` installed it. No peer may be missing or doubled.
  await run(
    "npm",
    ["install", "--prefer-offline", "--strict-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund"],
    {
      cwd: directory,
      maxBuffer: 16_000_000
    }
  )
}

/** Returns the entries that cannot be imported while the optional peers of their package are not installed. */
const entriesInNeedOfPeers = async (
  { entries, manifest }: Package,
  consumer: string
): Promise<ReadonlyArray<string>> => {
  const peers = Object.keys(manifest.peerDependenciesMeta ?? {}).map((name) => join(consumer, "node_modules", name))
  if (peers.length === 0) return []
  await writeFile(
    join(consumer, "probe.mjs"),
    `
    const missing = []
    for (const entry of ${JSON.stringify(entries)}) {
      await import(entry).catch((error) => {
        if (error.code !== "ERR_MODULE_NOT_FOUND") throw error
        missing.push(entry)
      })
    }
    process.stdout.write(JSON.stringify(missing))
    process.exit(0)
    `
  )
  for (const peer of peers) await rename(peer, `${peer}.hidden`)
  try {
    return JSON.parse((await run("node", ["probe.mjs"], { cwd: consumer })).stdout)
  } finally {
    for (const peer of peers) await rename(`${peer}.hidden`, peer)
  }
}

/**
 * Every entry can be imported and no internal module can. The package itself exports all its modules, or a folder that is an
 * entry of its own does, but for those that need an optional peer, because it has to load without one.
 */
const loads = async (pkg: Package, consumer: string, optional: ReadonlyArray<string>) => {
  const { entries, files, manifest } = pkg
  const exported = entries.filter((entry) => entry !== manifest.name && !optional.includes(entry))
    // The index holds modules by name, those of a folder too; the folder's own index is no module.
    .flatMap((entry): ReadonlyArray<readonly [string, ReadonlyArray<string>]> => {
      const [, folder = "", name] = /^(.+)\/([A-Z]\w*)$/.exec(entry) ?? []
      return name === undefined ? [] : [[name, entries.filter((index) => index === manifest.name || index === folder)]]
    })
  const internals = files
    .flatMap((file) => /^dist\/(.+)\.js$/.exec(file)?.[1] ?? [])
    .filter(isInternal)
    .map((path) => `${manifest.name}/${path}`)
  const program = `load-${basename(manifest.name)}.mjs`
  await writeFile(
    join(consumer, program),
    `
    const problems = []
    for (const entry of ${JSON.stringify(entries)}) {
      await import(entry)
      if (import.meta.resolve(entry).includes("/src/")) problems.push(entry + " resolves to its source")
    }
    for (const [name, indexes] of ${JSON.stringify(exported)}) {
      const found = await Promise.all(indexes.map((index) => import(index)))
      if (!found.some((index) => name in index)) problems.push("no index.ts exports " + name)
    }
    for (const entry of ${JSON.stringify(internals)}) {
      await import(entry).then(
        () => problems.push(entry + " can be imported"),
        (error) => error.code === "ERR_PACKAGE_PATH_NOT_EXPORTED" || problems.push(String(error))
      )
    }
    process.stdout.write(JSON.stringify(problems))
    process.exit(0)
    `
  )
  const problems: ReadonlyArray<string> = JSON.parse((await run("node", [program], { cwd: consumer })).stdout)
  return optional.includes(manifest.name)
    ? [...problems, `${manifest.name} itself needs an optional peer`]
    : problems
}

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  return typeof address === "object" && address !== null ? address.port : 0
}

/** Runs a program of the tutorial; `until` is what it has to print before the answer is given. */
const runProgram = async (directory: string, args: ReadonlyArray<string>, until?: RegExp) => {
  const child = spawn("node", args, { cwd: directory, stdio: ["ignore", "pipe", "pipe"] })
  let output = ""
  const printed = new Promise<void>((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text
        if (until?.test(output) === true) resolve()
      })
    }
  })
  const closed = once(child, "close")
  await Promise.race([printed, closed])
  return {
    output: () => output,
    /** Ends the program as Ctrl-C does. */
    stop: async () => {
      child.kill("SIGINT")
      await closed
    }
  }
}

/** Follows `docs/tutorial.md` as a reader does, in an empty directory, with the tarballs in place of the registry's packages. */
const tutorial = async (packages: ReadonlyArray<Package>, directory: string): Promise<ReadonlyArray<string>> => {
  const text = await readFile(join(root, "docs/tutorial.md"), "utf8")
  const port = String(await freePort())
  const [install = ""] = [...text.matchAll(/^ *```sh\n(.*?)^ *```$/gms)].flatMap((match) => match[1] ?? [])
  const { devDependencies: pinned = {} } = await readManifest(root)
  const wanted = (/^npm install (.*)$/m.exec(install)?.[1] ?? "").split(" ")
  // What the named packages need of ours is not on the registry either.
  const needed = await withNeeded(wanted.filter((name) => name.startsWith("@sallyport/")).map((name) => basename(name)))
  await mkdir(directory)
  await run("npm", ["init", "-y"], { cwd: directory })
  await run("npm", ["pkg", "set", "type=module"], { cwd: directory })
  await run("npm", [
    "install",
    "--prefer-offline",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    ...packages.filter(({ directory }) => needed.has(basename(directory))).map(({ tarball }) => tarball),
    ...wanted.filter((name) => !name.startsWith("@sallyport/")).map((name) => `${name}@${pinned[name]}`)
  ], { cwd: directory, maxBuffer: 16_000_000 })
  for (const program of programsOf(text)) {
    const [, file] = /^\/\/ ([\w-]+\.ts)\n/.exec(program) ?? []
    if (file === undefined) return ["a program of the tutorial does not begin with the name of its file"]
    await writeFile(join(directory, file), program.replaceAll("3000", port))
  }
  const server = await runProgram(directory, ["server.ts"], /^Open \S+ to pair\.$/m)
  try {
    const address = /^Open (\S+) to pair\.$/m.exec(server.output())?.[1]
    if (address === undefined) return [`the server printed no address: ${server.output()}`]
    const cut = await runProgram(directory, ["phone.ts", address], /^event 3 /m)
    await cut.stop()
    const resumed = await runProgram(directory, ["phone.ts"])
    const numbers = [cut, resumed].map(({ output }) =>
      Array.from(output().matchAll(/^event (\d+) \{"count":\1\}$/gm), ([, number]) => Number(number))
    )
    const all = numbers.flat()
    return [
      ...cut.output().startsWith("paired\n") ? [] : [`the phone was not paired: ${cut.output()}`],
      ...numbers.every((part) => part.length > 0) && all.every((number, index) => number === index + 1) &&
          all.length === 10
        ? []
        : [`the phone saw ${JSON.stringify(numbers)}, not each of 10 events once, in two parts: ${resumed.output()}`],
      ...resumed.output().endsWith("end succeeded\n") ? [] : [`the run has not succeeded: ${resumed.output()}`]
    ]
  } finally {
    await server.stop()
  }
}

/**
 * Follows the README's lines that install the tarballs into an empty project, and there compiles the first programs of the
 * READMEs of core and of http, and runs that of core, as Node takes packages and as bundlers do.
 */
const installs = async (directory: string): Promise<ReadonlyArray<string>> => {
  const section = (await readFile(join(root, "README.md"), "utf8")).split("\n## Install\n")[1]?.split("\n## ")[0] ?? ""
  const [lines = ""] = Array.from(section.matchAll(/^```sh\n(.*?)^```$/gms), ([, lines]) => lines)
  const { devDependencies: pinned = {} } = await readManifest(root)
  const wrong = Array.from(lines.matchAll(/ (@?[\w/-]+)@(\d\S*)/g)).filter(([, name = "", version]) =>
    pinned[name] !== version
  )
  if (wrong.length > 0) return wrong.map(([named]) => `the README installs${named}, which is not the tested version`)
  if (!lines.includes("../my-server")) return ["the README does not install into ../my-server"]
  await mkdir(directory)
  await run("sh", ["-ec", lines.replaceAll("../my-server", directory)], {
    cwd: root,
    maxBuffer: 16_000_000,
    env: { ...process.env, npm_config_prefer_offline: "true", npm_config_audit: "false", npm_config_fund: "false" }
  })
  const programs = await Promise.all(["core", "http"].map(async (name) => {
    const [program = ""] = programsOf(await readFile(join(root, "packages", name, "README.md"), "utf8"))
    await writeFile(join(directory, `${name}.ts`), program)
    return program
  }))
  const expected = Array.from((programs[0] ?? "").matchAll(/^ *\/\/ => (.*)$/gm), ([, line]) => `${line}\n`).join("")
  const problems: Array<string> = []
  const modes = { nodenext: "NodeNext", bundler: "ESNext" }
  for (const [moduleResolution, module] of Object.entries(modes)) {
    const compilerOptions = {
      target: "ES2023",
      lib: ["ES2023", "DOM", "DOM.Iterable"],
      module,
      moduleResolution,
      strict: true,
      noEmit: true,
      types: ["node"],
      typeRoots: [join(root, "node_modules/@types")]
    }
    await writeFile(
      join(directory, "tsconfig.json"),
      JSON.stringify({ compilerOptions, include: ["core.ts", "http.ts"] })
    )
    await run("tsc", ["--project", directory], { maxBuffer: 16_000_000 }).catch((error: unknown) =>
      problems.push(`${moduleResolution}: ${describe(error)}`)
    )
  }
  await bundle({
    root: directory,
    configFile: false,
    logLevel: "error",
    ssr: { noExternal: true },
    build: { ssr: "core.ts", outDir: "bundled", rolldownOptions: { output: { entryFileNames: "core.js" } } }
  })
  for (const file of ["core.ts", "bundled/core.js"]) {
    const { stdout } = await run("node", [file], { cwd: directory })
    if (expected === "" || stdout !== expected) problems.push(`${file} printed ${stdout}instead of ${expected}`)
  }
  return problems
}

/** Compiles the programs of the READMEs and of the tutorial against the declarations. */
const compiles = async (packages: ReadonlyArray<Package>, consumer: string): Promise<ReadonlyArray<string>> => {
  const lines = packages.flatMap(({ entries }) => entries).map((entry, index) =>
    `export type * as M${index} from ${JSON.stringify(entry)}`
  )
  await writeFile(join(consumer, "entries.ts"), lines.join("\n"))
  const fenced = await Promise.all(packages.map(async ({ manifest, unpacked }) => {
    const programs = programsOf(await readFile(join(unpacked, "README.md"), "utf8").catch(() => ""))
    const name = basename(manifest.name)
    await Promise.all(
      programs.map((program, index) => writeFile(join(consumer, `readme-${name}-${index}.ts`), program))
    )
    return programs.length === 0 ? [`the README of ${manifest.name} has no program`] : []
  }))
  const taught = programsOf(await readFile(join(root, "docs/tutorial.md"), "utf8"))
  await Promise.all(
    taught.map((program, index) => writeFile(join(consumer, `tutorial-${index}.ts`), program))
  )
  await writeFile(
    join(consumer, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        target: "ES2023",
        lib: ["ES2023", "DOM", "DOM.Iterable"],
        module: "NodeNext",
        moduleDetection: "force",
        types: ["node"],
        strict: true,
        exactOptionalPropertyTypes: true,
        noEmit: true
      },
      include: ["*.ts"]
    })
  )
  const { stdout }: { readonly stdout: string } = await run("tsc", ["--project", "tsconfig.json"], {
    cwd: consumer,
    maxBuffer: 16_000_000
  }).catch((error) => {
    if (String(error.stdout).includes("error TS")) return error
    throw error
  })
  // The AI SDK's own declarations do not compile with `exactOptionalPropertyTypes`.
  const faults = stdout.split(/\n(?=\S)/).filter((fault) =>
    fault.includes("error TS") && !/^node_modules\/(?:ai|@ai-sdk\/[\w-]+)\//.test(fault)
  )
  return [...fenced.flat(), ...faults]
}

/** Runs every suite of `@sallyport/testing` as a project that has adapters of its own. */
const testsAdapters = async (packages: ReadonlyArray<Package>, consumer: string): Promise<ReadonlyArray<string>> => {
  await writeFile(join(consumer, "stranger.test.ts"), strangersTest)
  const { stdout } = await run(join("node_modules", ".bin", "vitest"), ["run", "--reporter=verbose", "--no-color"], {
    cwd: consumer,
    maxBuffer: 16_000_000
  })
  const suites = packages.flatMap(({ entries }) =>
    entries.flatMap((entry) => /^@sallyport\/testing\/(\w+)Suite$/.exec(entry)?.[1] ?? [])
  )
  return suites.filter((suite) => !stdout.includes(`${suite} (a stranger's)`)).map((suite) =>
    `${suite}Suite did not run`
  )
}

const main = async (temporary: string) => {
  const built = await check("build: every package compiles", async () => {
    await build()
    const { references }: { readonly references: ReadonlyArray<{ readonly path: string }> } = JSON.parse(
      await readFile(join(root, "tsconfig.build.json"), "utf8")
    )
    const referenced = references.map(({ path }) => basename(path))
    return (await names())
      .filter((name) => !referenced.includes(name))
      .map((name) => `tsconfig.build.json does not reference packages/${name}`)
  })
  if (!built) return

  const packed = (await names()).map((name) => async () => {
    const made: Array<Package> = []
    await check(`${name}: packs`, async () => {
      made.push(await packAndOpen(name, temporary))
      return []
    })
    return made
  })
  const packages = (await together(packed)).flat()
  await check(
    "the addresses of the packages are those of the root (npm run addresses)",
    async () => Array.from((await Addresses.stale(root)).keys())
  )
  const looks = packages.map((pkg) => async () => {
    const name = basename(pkg.directory)
    await check(`${name}: metadata`, () => metadata(pkg))
    await check(`${name}: files of the tarball`, () => contents(pkg))
    await check(
      `${name}: ${Math.ceil(pkg.size / 1024)} KiB`,
      async () => tooLarge("the tarball", pkg.size, largestTarballs[name])
    )
    await check(`${name}: links of its pages`, () => links(pkg))
    await check(`${name}: no paths of this machine`, () => machinePaths(pkg))
    await check(`${name}: dependencies are declared and used`, () => dependencies(pkg))
    await check(`${name}: publint`, () => lintPublication(pkg))
    return check(`${name}: types of ${pkg.entries.length} entries (attw)`, () => lintTypes(pkg))
  })

  const consumer = join(temporary, "consumer")
  const install = () =>
    check("consumer: installs the tarballs", async () => {
      await makeConsumer(packages, consumer)
      const nested = await Promise.all(packages.map(async ({ manifest }) => {
        const own = await readdir(join(consumer, "node_modules", manifest.name, "node_modules")).catch(() => [])
        // An exact version of a library that another one wants newer.
        return own.filter((name) => !(name in (manifest.dependencies ?? {})))
          .map((name) => `${manifest.name} got a ${name} of its own, beside the consumer's`)
      }))
      return nested.flat()
    })
  const [installed] = await together([install, ...looks])
  if (installed !== true) return

  // Peers that are hidden are hidden from all.
  const needs = new Map<Package, ReadonlyArray<string>>()
  for (const pkg of packages) needs.set(pkg, await entriesInNeedOfPeers(pkg, consumer))
  const starts = packages.map((pkg) => async () => {
    const { entries, manifest } = pkg
    await check(
      `consumer: ${manifest.name} loads (${entries.length} entries), internals are closed`,
      () => loads(pkg, consumer, needs.get(pkg) ?? [])
    )
    for (const name of Object.keys(manifest.bin ?? {})) {
      await check(`consumer: ${name} --version`, async () => {
        const { stdout } = await run(join("node_modules", ".bin", name), ["--version"], { cwd: consumer })
        return stdout.includes(manifest.version) ? [] : [`${stdout.trim()} is not ${manifest.version}`]
      })
      await check(`${name} needs no other package to start`, () => startsAlone(pkg, temporary))
    }
  })

  const uses = async () => {
    const client = packages.find(({ manifest }) => manifest.name === "@sallyport/client")
    if (client !== undefined) {
      const bytes = await bundleOfClient(client, consumer)
      await check(
        `consumer: the client in a browser, ${Math.ceil(bytes / 1024)} KiB after gzip`,
        async () => tooLarge("the bundle", bytes, largestBundle)
      )
    }
    await check(
      "consumer: compiles against the declarations, without skipLibCheck for ours",
      () => compiles(packages, consumer)
    )
    await check(
      "consumer: runs every suite of @sallyport/testing on the memory adapters",
      () => testsAdapters(packages, consumer)
    )
  }
  const readme = async () => {
    await check(
      "README: its three lines install into an empty project, for Node and for bundlers",
      () => installs(join(temporary, "my-server"))
    )
  }
  const taught = async () => {
    await check(
      "tutorial: from an empty directory to a paired session and a resumed run",
      () => tutorial(packages, join(temporary, "countdown"))
    )
  }
  // The longest first.
  await together([uses, readme, taught, ...starts])
}

const temporary = await mkdtemp(join(tmpdir(), "sallyport-packages-"))
// Also if the checks are interrupted.
process.once("exit", () => rmSync(temporary, { recursive: true, force: true }))
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1))
await main(temporary)
print(`${passed} of ${passed + failed} checks of the packages passed`)
process.exitCode = failed === 0 ? 0 : 1
