/**
 * Reads the documents of the repository and the code blocks in them.
 */
import { Effect, FileSystem, Path } from "effect"

/** Lists the documents whose code is checked. */
export const documents: ReadonlyArray<string> = [
  "README.md",
  "docs/mounting.md",
  "docs/persistence.md",
  "docs/pairing-and-sessions.md",
  "docs/identities.md",
  "docs/runs.md",
  "docs/scoped-credentials.md",
  "docs/testing.md"
]

const root = new URL("../../../", import.meta.url)

/** The directory of the repository. */
export const directory = Effect.flatMap(Path.Path, (path) => path.fromFileUrl(root))

/** Returns the text of a file of the repository. */
export const read = Effect.fnUntraced(function*(file: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  return yield* fs.readFileString(path.join(yield* directory, file))
})

/** Describes a code block, with the comment before it, if there is one. */
export interface CodeBlock {
  readonly language: string
  readonly code: string
  readonly comment: string | undefined
}

/** Returns the code blocks of a document, in order. */
export const codeBlocks = (markdown: string): ReadonlyArray<CodeBlock> =>
  Array.from(
    markdown.matchAll(/(?:^<!-- (.*) -->\n+)?^```(\w*)\n([^]*?)^```$/gm),
    ([, comment, language = "", code = ""]) => ({ language, code, comment })
  )

/** Returns a region of a source file, between `// #region name` and `// #endregion name`, without its indentation. */
export const region = (source: string, name: string): string | undefined => {
  const text = source.match(new RegExp(`^ *// #region ${name}\\n([^]*?)^ *// #endregion ${name}$`, "m"))?.[1]
  const indent = /^ */.exec(text ?? "")?.[0] ?? ""
  return text?.replaceAll(new RegExp(`^${indent}`, "gm"), "")
}
