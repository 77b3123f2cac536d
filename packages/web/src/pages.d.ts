/** What `scripts/pages.ts` builds from `pages/`. */
declare module "#pages" {
  const pages: {
    /** The file that a page begins with, and the style sheet of all of them. */
    readonly begin: Readonly<Record<"pair" | "connections" | "device" | "start" | "pages", string>>
    /** Each file by its name, which changes with its content; compressed too, as base64. */
    readonly files: Readonly<Record<string, { readonly content: string; readonly gzip: string }>>
  }
  export default pages
}
