/**
 * Copies the address of the repository from the field `repository` of the root's `package.json` to every package: as their
 * `repository`, `homepage` and `bugs`. If the root has none, they have none. `--check` writes nothing and fails if one differs.
 */
import { readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"

interface Fields {
  readonly repository?: unknown
  readonly [field: string]: unknown
}

/** Returns the addresses of a package. `repository` is what a browser opens, without `.git`. */
const addressesOf = (repository: string, directory: string) => ({
  homepage: `${repository}/tree/main/${directory}#readme`,
  bugs: `${repository}/issues`,
  // Provenance is refused of a package that was built from another repository.
  repository: { type: "git", url: `git+${repository}.git`, directory }
})

const read = async (file: string): Promise<Fields> => JSON.parse(await readFile(file, "utf8"))

/** Returns the manifests below a root that differ from what they should be, each with its right text. */
export const stale = async (root: string): Promise<ReadonlyMap<string, string>> => {
  const { repository } = await read(join(root, "package.json"))
  if (
    repository !== undefined &&
    (typeof repository !== "string" || !/^https:\/\/[^\s#?]+(?<!\.git|\/)$/.test(repository))
  ) {
    throw new Error(
      "repository of package.json must be the address that a browser opens: https://, without .git at its end"
    )
  }
  const found = new Map<string, string>()
  for (const name of (await readdir(join(root, "packages"))).sort()) {
    const file = join(root, "packages", name, "package.json")
    const { bugs: _bugs, homepage: _homepage, repository: _repository, ...manifest } = await read(file)
    const fields = Object.entries(manifest).flatMap((field) =>
      field[0] === "license" && repository !== undefined
        ? [field, ...Object.entries(addressesOf(repository, `packages/${name}`))]
        : [field]
    )
    const text = `${JSON.stringify(Object.fromEntries(fields), null, 2)}\n`
    if (text !== await readFile(file, "utf8")) found.set(file, text)
  }
  return found
}

if (import.meta.main) {
  const found = await stale(join(import.meta.dirname, ".."))
  for (const [file, text] of found) {
    process.stdout.write(`${file}\n`)
    if (!process.argv.includes("--check")) await writeFile(file, text)
  }
  if (process.argv.includes("--check") && found.size > 0) {
    process.stderr.write("These differ from the address of the root: npm run addresses\n")
    process.exitCode = 1
  }
}
