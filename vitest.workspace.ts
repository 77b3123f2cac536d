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

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // Many tests wait for other processes most of the time.
    maxWorkers: 3,
    execArgv: ["--conditions=sallyport-source"],
    // The processes that tests start share what Node compiles from the sources: each starts in half the time.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL("node_modules/.cache/node-compile", import.meta.url)) },
    projects: [
      {
        extends: true,
        test: {
          name: "library",
          globalSetup: ["scripts/pages.ts", "test-support/programsSetup.ts"],
          include: [
            "packages/*/test/**/*.test.ts",
            "examples/*/test/**/*.test.ts",
            "{faults/test,test-support}/*.test.ts"
          ],
          exclude: ["**/node_modules/**", ...onDatabases]
        }
      },
      {
        extends: true,
        test: {
          name: "databases",
          include: onDatabases,
          globalSetup: ["scripts/pages.ts", "test-support/programsSetup.ts", "test-support/postgresSetup.ts"]
        }
      }
    ]
  }
})
