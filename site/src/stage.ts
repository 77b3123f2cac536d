/** Lays out the pages as the site's generator wants them: their links and pictures made those of the site. */
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path/posix"
import { type Page, pages, root } from "./contents.ts"

/** The directory from which the site is made. It is made again each time. */
export const staged = join(import.meta.dirname.replaceAll("\\", "/"), "../.pages")

export const write = (address: string, text: string): void => {
  const file = join(staged, `${address}.md`)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}

const pictures = new Set<string>()

/** Changes what is outside of blocks of code. */
const prose = (text: string, change: (text: string) => string): string =>
  text.split(/(^```[^]*?^```$)/gm).map((part) => part.startsWith("```") ? part : change(part)).join("")

const byFile = new Map(pages.map((page) => [page.file, page]))

/**
 * Returns the address on the site that a link leads to. What is in the repository and not on the site has none: its name
 * stands there without a link, as long as the repository has no address.
 */
const resolve = ({ file }: Page, link: string): string | undefined => {
  if (/^(?:https?:|mailto:|#)/.test(link)) return link
  const [path = "", anchor] = link.split("#")
  const target = join(dirname(file), path)
  const page = byFile.get(target) ?? byFile.get(join(target, "README.md"))
  if (page !== undefined) return anchor === undefined ? page.address : `${page.address}#${anchor}`
  if (!existsSync(join(root, target))) throw new Error(`${file} links to ${link}, which is not there`)
  if (!target.endsWith(".png") && !target.endsWith(".svg")) return undefined
  pictures.add(target)
  return `/pictures/${basename(target)}`
}

const textOf = (page: Page): string =>
  prose(
    readFileSync(join(root, page.file), "utf8").replaceAll(/^<!-- .* -->\n+/gm, "")
      // A language that the site's highlighter does not know.
      .replaceAll(/^```caddyfile$/gm, "```txt"),
    (text) =>
      text.replaceAll(/(!?)\[((?:[^[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)/g, (_, picture, words, link) => {
        const address = resolve(page, link)
        return address === undefined ? words : `${picture}[${words}](${address})`
      })
  )

/** Writes every page, and returns the text of each. */
export const stage = (): ReadonlyMap<Page, string> => {
  rmSync(staged, { recursive: true, force: true })
  const known = new Set(pages.map(({ file }) => file))
  for (const file of globSync(["docs/**/*.md", "{packages,examples}/*/README.md"], { cwd: root })) {
    if (!known.has(file.replaceAll("\\", "/"))) throw new Error(`site/src/contents.ts has no place for ${file}`)
  }
  const texts = new Map(pages.map((page) => [page, textOf(page)]))
  for (const [{ address }, text] of texts) write(address, text)
  mkdirSync(join(staged, "public/pictures"), { recursive: true })
  for (const file of pictures) cpSync(join(root, file), join(staged, "public/pictures", basename(file)))
  return texts
}
