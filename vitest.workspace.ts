import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

/**
 * Workspace packages are imported from their sources, so that a test never runs a stale build, and all others as Node takes
 * them: not by `module`, whose files are for bundlers and may not run in it.
 */
const conditions = ["sallyport-source", "node", "development|production"]

/** The tests that run on real databases. Only a run that includes one of them starts a PostgreSQL server. */
const onDatabases = [
  "packages/*/test/**/*.databases.test.ts",
  "packages/*/test/**/*.postgres.test.ts",
  "{faults,examples/*}/test/*.databases.test.ts"
]

/**
 * The tests whose files load their modules themselves: those that may start a browser, which ends with its file, and one that
 * looks at what modules do when they are loaded. All others share what was loaded before, which takes longer than most of them
 * run.
 */
const apart = [
  "packages/cli/test/{browser,devicePage,hostScopes,pages,pagesByKeyboard,pairPage,serve}.test.ts",
  "packages/{react,web}/test/**/*.test.ts",
  "examples/{agent-run,chat,electron,mcp-server,react-host}/test/*.test.ts",
  "packages/client/test/{Browser,ConnectBrowser,Refresh,readmePrograms}.test.ts",
  "packages/{durable-streams/test/StoredDocuments,http/test/PairPage}.test.ts",
  "test-support/regularExpressions.test.ts"
]
const apartOnDatabases = [
  "examples/agent-run/test/*.databases.test.ts",
  "packages/core/test/runs/RunCuts.databases.test.ts"
]

const setup = ["test-support/temporarySetup.ts", "scripts/pages.ts", "test-support/programsSetup.ts"]

const project = (name: string, options: {
  readonly isolate: boolean
  readonly include: Array<string>
  readonly exclude: ReadonlyArray<string>
  readonly globalSetup: Array<string>
}) => ({
  extends: true as const,
  test: { name, ...options, exclude: ["**/node_modules/**", ...options.exclude] }
})

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // Many tests wait for other processes or for deadlines most of the time.
    maxWorkers: 4,
    maxConcurrency: 20,
    execArgv: ["--conditions=sallyport-source"],
    // The processes that tests start share what Node compiles from the sources: each starts in half the time.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL("node_modules/.cache/node-compile", import.meta.url)) },
    projects: [
      project("library", {
        isolate: false,
        include: ["{packages,examples}/*/test/**/*.test.ts", "{faults/test,test-support}/*.test.ts"],
        exclude: [...onDatabases, ...apart],
        globalSetup: setup
      }),
      project("library, apart", {
        isolate: true,
        include: apart,
        exclude: onDatabases,
        globalSetup: setup
      }),
      project("databases", {
        isolate: false,
        include: onDatabases,
        exclude: apartOnDatabases,
        globalSetup: [...setup, "test-support/postgresSetup.ts"]
      }),
      project("databases, apart", {
        isolate: true,
        include: apartOnDatabases,
        exclude: [],
        globalSetup: [...setup, "test-support/postgresSetup.ts"]
      })
    ]
  }
})
