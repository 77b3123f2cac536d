import { defineConfig } from "vitest/config"

/** Workspace packages are imported from their sources, so that a test never runs a stale build. */
const conditions = ["sallyport-source", "module", "node", "development|production"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    execArgv: ["--conditions=sallyport-source"],
    projects: [
      {
        extends: true,
        test: {
          name: "library",
          include: ["packages/*/test/**/*.test.ts", "examples/*/test/**/*.test.ts"],
          exclude: [
            "**/node_modules/**",
            "packages/sql/test/**",
            "packages/durable-streams/test/**",
            "**/*.postgres.test.ts"
          ]
        }
      },
      {
        // A project of its own, because only a run that includes these tests needs a PostgreSQL server.
        extends: true,
        test: {
          name: "sql",
          include: [
            "packages/sql/test/**/*.test.ts",
            "packages/durable-streams/test/**/*.test.ts",
            "packages/*/test/**/*.postgres.test.ts"
          ],
          globalSetup: ["packages/sql/test/globalSetup.ts"]
        }
      }
    ]
  }
})
