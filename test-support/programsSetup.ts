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
  "faults/src/{killsNode,streamServer}.ts"
]

export default async () => {
  const input: Record<string, string> = {}
  for await (const source of glob(sources, { cwd: root })) {
    input[join(parse(source).dir, parse(source).name)] = join(root, source)
  }
  const cache = join(root, "node_modules/.cache")
  await mkdir(cache, { recursive: true })
  const directory = await mkdtemp(join(cache, "programs-"))
  // Some tests start programs as another user.
  await chmod(directory, 0o755)
  // Without it, Node parses each file once more to find out what it is.
  await writeFile(join(directory, "package.json"), `{"type":"module"}`)
  await build({
    root,
    configFile: false,
    logLevel: "error",
    ssr: { noExternal: true, resolve: { conditions: ["sallyport-source", "node"] } },
    resolve: { alias: { "#pages": join(root, "packages/web/dist/internal/pages.js") } },
    build: {
      outDir: directory,
      emptyOutDir: false,
      ssr: true,
      target: "node24",
      // Comments are two thirds of the text that each process would read.
      rolldownOptions: { input, output: { entryFileNames: "[name].js", comments: false } }
    }
  })
  // The processes that run tests get it as they get the rest of the environment.
  process.env["TEST_PROGRAMS"] = directory
  process.env["NODE_COMPILE_CACHE"] = join(directory, "compiled")
  return () => rm(directory, { recursive: true, force: true })
}
