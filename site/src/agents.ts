/** Makes what programs that write code read of the site: `llms.txt`, all pages in one file, and a skill. */
import { type Page, sections } from "./contents.ts"

const firstOf = (text: string): string =>
  text.split("\n\n").find((part) => /^[A-Z`]/.test(part))?.replaceAll("\n", " ").replaceAll(
    /\[([^\]]*)\]\([^)]*\)/g,
    "$1"
  )
    .replace(/^(.*?[.:])\s.*$/, "$1").replace(/:$/, ".") ?? ""

const summary =
  "Sallyport is a set of Effect 4 services that a host mounts into its own server: pairing, sessions, approval of " +
  "connecting clients, scoped credentials and resumable runs."

const rules = [
  "Import a module as a namespace: `import * as RunEventLog from \"@sallyport/core/runs/RunEventLog\"`, or from the package: `import { RunEventLog } from \"@sallyport/core\"`. Nothing below `internal/` can be imported.",
  "It is Effect 4: `effect/http`, `effect/sql`, `effect/Schema`; `@effect/platform`, `@effect/schema` and `@effect/sql` of Effect 3 do not fit. Read `node_modules/effect/src` when in doubt.",
  "Provide one store for all of access: `SqlRepositories.layer` or `Repositories.layerMemory`. Two stores do not compile.",
  "Branch on `_tag` and `code` of an error, never on its message. Each code has a page under `errors/`.",
  "Give every route a scope: `requires(scope)` for an endpoint, `Authentication.guard(scope)` for a router. `null` means any session.",
  "Start a run with an idempotency key that was made once for the work, and send the same key again after a failure. Never make a new key to try again.",
  "Follow a run from the last event that was seen; do not count events yourself.",
  "Codes, tokens and keys are `Redacted`. Unwrap one only where it leaves the process.",
  "Add the upkeep layers beside the routes: `RunEventLog.layerReaper()`, and the `layerSweeper()`s."
]

/** Returns each file by its name. */
export const forAgents = (
  texts: ReadonlyMap<Page, string>,
  modules: ReadonlyArray<string>
): ReadonlyArray<readonly [name: string, text: string]> => {
  const textOf = (page: Page) => texts.get(page) ?? ""
  const short = sections.filter(({ title }) => !["Inside", "Errors"].includes(title))
  const index = short.map(({ pages, title }) =>
    [`## ${title}`, "", ...pages.map((page) => `- [${page.title}](${page.address}.md): ${firstOf(textOf(page))}`)]
      .join("\n")
  )
  return [
    [
      "llms.txt",
      [
        "# Sallyport",
        `> ${summary}`,
        ...index,
        "## Optional\n\n- [Errors](/errors.md): each code with its cause and its remedy\n- [Reference](/api/index.md): each module\n- [All pages](/llms-full.txt)"
      ].join("\n\n") + "\n"
    ],
    [
      "llms-full.txt",
      short.flatMap(({ pages }) => pages).filter(({ file }) => file !== "docs/requirements.md").map(textOf)
        .join("\n\n---\n\n")
    ],
    [
      "SKILL.md",
      [
        "---\nname: sallyport\ndescription: Use when a project imports @sallyport packages, or when its server needs pairing, sessions, approval of clients, scoped credentials or resumable runs on Effect 4.\n---",
        "# Sallyport",
        summary,
        `## Rules\n\n${rules.map((rule) => `- ${rule}`).join("\n")}`,
        "## Pages",
        ...index.map((part) => part.replace("## ", "### ")),
        `## Modules\n\nEach has a page under \`/api/\`, without the scope of the name.\n\n${
          modules.map((specifier) => `- \`${specifier}\``).join("\n")
        }`
      ].join("\n\n") + "\n"
    ]
  ]
}
