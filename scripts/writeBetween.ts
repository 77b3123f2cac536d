import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"

/** Puts a text between two marks of a page of docs/, in place of what was there. */
export const writeBetween = async (name: string, begin: string, end: string, written: string): Promise<void> => {
  const page = join(import.meta.dirname, "..", "docs", name)
  const text = await readFile(page, "utf8")
  const before = text.slice(0, text.indexOf(begin) + begin.length)
  const after = text.slice(text.indexOf(end))
  await writeFile(page, `${before}\n\n${written}\n\n${after}`)
}
