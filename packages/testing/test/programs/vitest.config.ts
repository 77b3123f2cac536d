import { defineConfig } from "vitest/config"

const conditions = ["sallyport-source", "module", "node", "development|production"]

/** Runs the suites on broken adapters. A test that waits for what a broken adapter never does is ended early. */
export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ["packages/testing/test/programs/mutants.run.ts"],
    testTimeout: 10_000,
    execArgv: ["--conditions=sallyport-source"]
  }
})
