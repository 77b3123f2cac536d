/** Says which files of the repository are pages of the site, where they stand in it, and in which order. */
import { globSync } from "node:fs"
import { basename, dirname, join } from "node:path/posix"

/** The directory of the repository. */
export const root = join(import.meta.dirname.replaceAll("\\", "/"), "../..")

export interface Page {
  /** The file, from the root of the repository. */
  readonly file: string
  /** The address, without the name of a file's type. */
  readonly address: string
  /** What the navigation calls it. */
  readonly title: string
}

export interface Section {
  readonly title: string
  readonly pages: ReadonlyArray<Page>
}

const addressOf = (file: string): string =>
  `/${
    file.replace(/^docs\//, "").replace(/\/README\.md$/, "").replace(/^README\.md$/, "overview").replace(/\.md$/, "")
      .replace(/^[A-Z]+$/, (name) => name.toLowerCase())
  }`

const page = (file: string, title: string): Page => ({ file, address: addressOf(file), title })

const readme = (name: string, title: string) => page(`${name}/README.md`, title)

/** Lists what a folder of `docs` holds, by the name of the file. */
const folder = (name: string, titleOf: (name: string) => string): ReadonlyArray<Page> =>
  globSync(`docs/${name}/*.md`, { cwd: root }).map((file) => file.replaceAll("\\", "/")).sort()
    .map((file) => page(file, titleOf(basename(file, ".md"))))

export const sections: ReadonlyArray<Section> = [
  {
    title: "Start",
    pages: [page("docs/tutorial.md", "Tutorial"), page("docs/concepts.md", "Concepts"), page("README.md", "Overview")]
  },
  {
    title: "Guides: access",
    pages: [
      page("docs/mounting.md", "Mount"),
      page("docs/persistence.md", "Persistence"),
      page("docs/policies.md", "Policies"),
      page("docs/pairing-and-sessions.md", "Pairing and sessions"),
      page("docs/pages.md", "The pages"),
      page("docs/connect.md", "Approval of clients"),
      page("docs/agents.md", "Agents that sign in"),
      page("docs/identities.md", "Identities from elsewhere"),
      page("docs/dpop-and-tokens.md", "DPoP and tokens"),
      page("docs/access-feed.md", "The access feed"),
      page("docs/scoped-credentials.md", "Credentials"),
      page("docs/secrets.md", "Secrets")
    ]
  },
  {
    title: "Guides: runs",
    pages: [
      page("docs/runs.md", "Runs"),
      page("docs/durable-streams.md", "Streams"),
      readme("packages/interop", "Interop"),
      readme("packages/client", "The client"),
      readme("packages/react", "React")
    ]
  },
  {
    title: "Guides: to run it",
    pages: [
      readme("examples/desktop-backend", "Desktop"),
      page("docs/operations.md", "Operations"),
      page("docs/operator.md", "The operator's terminal"),
      page("docs/observability.md", "Metrics and spans"),
      page("docs/threat-model.md", "Security"),
      page("docs/testing.md", "Test your host"),
      readme("packages/testing", "Test an adapter"),
      page("docs/upgrade.md", "Upgrade")
    ]
  },
  {
    title: "Come from",
    pages: [
      page("docs/migrate/static-token.md", "A static token"),
      page("docs/migrate/better-auth.md", "better-auth"),
      page("docs/migrate/express-session.md", "express-session"),
      page("docs/migrate/resumable-stream.md", "resumable-stream on Redis"),
      page("docs/comparisons.md", "Comparisons")
    ]
  },
  {
    title: "Evidence",
    pages: [
      page("docs/benchmarks.md", "Benchmarks"),
      page("docs/reliability.md", "Reliability"),
      page("docs/requirements.md", "Promises and their tests"),
      page("docs/oauth.md", "The rules of OAuth and their tests")
    ]
  },
  {
    title: "Inside",
    pages: [
      page("docs/architecture.md", "Architecture"),
      page("CONTRIBUTING.md", "Contributing"),
      page("SECURITY.md", "Report a vulnerability"),
      ...folder("decisions", (name) => name.replace(/^(\d+)-/, "$1 ").replaceAll("-", " "))
    ]
  },
  {
    title: "Packages",
    pages: ["core", "pg", "sqlite-node", "node", "contract", "http", "web", "durable-streams", "connect", "cli"]
      .map((name) => readme(`packages/${name}`, `@sallyport/${name}`))
  },
  {
    title: "Examples",
    pages: globSync("examples/*/README.md", { cwd: root }).map((file) => file.replaceAll("\\", "/")).sort()
      .filter((file) => file !== "examples/desktop-backend/README.md")
      .map((file) => page(file, basename(dirname(file))))
  },
  { title: "Errors", pages: folder("errors", (name) => name === "README" ? "All of them" : name) }
]

/** Lists every page but those of the reference of the API. */
export const pages: ReadonlyArray<Page> = sections.flatMap(({ pages }) => pages)
