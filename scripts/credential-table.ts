/**
 * Writes the tables of docs/scoped-credentials.md from the table of the tests. A test fails if they differ.
 */
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { markdown } from "@sallyport/testing/CredentialTable"

const begin = "<!-- table: npm run credential-table -->"
const end = "<!-- end of table -->"
const page = join(import.meta.dirname, "..", "docs", "scoped-credentials.md")
const text = await readFile(page, "utf8")
const before = text.slice(0, text.indexOf(begin) + begin.length)
const after = text.slice(text.indexOf(end))
await writeFile(page, `${before}\n\n${markdown()}\n\n${after}`)
