import { readFileSync } from "node:fs"
import { join } from "node:path"
import { defineConfig } from "vitepress"
import { sections } from "../src/contents.ts"

const reference = JSON.parse(readFileSync(join(import.meta.dirname, "../.pages/api/sidebar.json"), "utf8"))

/** The names of errors are many, and are searched for. */
const isLong = (title: string) => ["Inside", "Packages", "Examples", "Errors", "Evidence"].includes(title)

export default defineConfig({
  title: "Sallyport",
  description: "Pairing, sessions, approval, scoped credentials and resumable runs, as layers of an Effect server",
  srcDir: ".pages",
  outDir: "dist",
  cleanUrls: true,
  // The index of the search is one chunk.
  vite: { build: { chunkSizeWarningLimit: 8_000 } },
  // The text of others holds `<A>`, which is no HTML.
  markdown: { html: false },
  // Its table takes the place of the outline.
  transformPageData: ({ frontmatter, relativePath }) =>
    relativePath === "comparisons.md" ? { frontmatter: { ...frontmatter, aside: false } } : {},
  themeConfig: {
    search: { provider: "local" },
    nav: [
      { text: "Tutorial", link: "/tutorial" },
      { text: "Guides", link: "/mounting" },
      { text: "Reference", link: "/api/" },
      { text: "Errors", link: "/errors" },
      { text: "Comparisons", link: "/comparisons" }
    ],
    sidebar: {
      "/api/": reference,
      "/": sections.map(({ pages, title }) => ({
        text: title,
        collapsed: isLong(title),
        items: pages.map(({ address, title }) => ({ text: title, link: address }))
      }))
    },
    outline: [2, 3]
  }
})
