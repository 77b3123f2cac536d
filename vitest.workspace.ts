import { defineConfig } from "vitest/config"

/** Workspace packages are imported from their sources, so that a test never runs a stale build. */
const conditions = ["sallyport-source", "module", "node", "development|production"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "examples/*/test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    execArgv: ["--conditions=sallyport-source"]
  }
})
