/**
 * Bundles the programs that tests start as processes, once for a test run: each then starts in half the time.
 */
import { chmod, glob, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { join, parse } from "node:path"
import { build } from "vite"

const root = join(import.meta.dirname, "..")
const sources = [
  "packages/cli/src/bin.ts",
  "packages/{client,core,durable-streams,interop}/test/programs/*.ts",
  "examples/{agent-run,cluster,connect,existing-server}/src/{main,*Main,relay,client}.ts",
  "examples/{connect,desktop-backend}/test/programs/*.ts",
  "examples/desktop-backend/src/backendMain.ts",
  "faults/src/{killsNode,streamServer}.ts"
]

export default async () => {
  // Both projects of a run use what the first has made.
  if (process.env["TEST_PROGRAMS"] !== undefined) return
  const input: Record<string, string> = {}
  for await (const source of glob(sources, { cwd: root })) {
    input[join(parse(source).dir, parse(source).name)] = join(root, source)
  }
  const cache = join(root, "node_modules/.cache")
  await mkdir(cache, { recursive: true })
  const directory = await mkdtemp(join(cache, "programs-"))
  // Some tests start programs as another user.
  await chmod(directory, 0o755)
  // Otherwise Node compiles each file twice to find out what it is.
  await writeFile(join(directory, "package.json"), JSON.stringify({ type: "module" }))
  await build({
    root,
    configFile: false,
    logLevel: "error",
    ssr: {
      noExternal: true,
      // It loads a library of the system.
      external: ["@napi-rs/keyring"],
      resolve: { conditions: ["sallyport-source", "node"] }
    },
    resolve: { alias: { "#pages": join(root, "packages/web/dist/internal/pages.js") } },
    build: {
      outDir: directory,
      emptyOutDir: false,
      ssr: true,
      target: "node24",
      // Comments are more than half of the sources, and each process would read them.
      rolldownOptions: { input, output: { entryFileNames: "[name].js", comments: false } }
    }
  })
  // The processes that run tests get it as they get the rest of the environment.
  process.env["TEST_PROGRAMS"] = directory
  process.env["NODE_COMPILE_CACHE"] = join(directory, "compiled")
  return () => rm(directory, { recursive: true, force: true })
}
