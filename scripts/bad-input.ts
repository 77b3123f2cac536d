/**
 * Writes the tables of docs/dpop-and-tokens.md from the tables of the tests. A test fails if they differ.
 */
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { begin, end, markdown } from "../packages/http/test/badInput.ts"

const page = join(import.meta.dirname, "..", "docs", "dpop-and-tokens.md")
const text = await readFile(page, "utf8")
const before = text.slice(0, text.indexOf(begin) + begin.length)
const after = text.slice(text.indexOf(end))
await writeFile(page, `${before}\n\n${markdown()}\n\n${after}`)
