import { assert, describe, it } from "@effect/vitest"
import { spawnPostgres } from "../../benchmarks/src/processes.ts"
import * as Campaign from "../src/campaign.ts"
import * as Random from "../src/random.ts"
import { report } from "../src/report.ts"
import * as Stores from "../src/stores.ts"

/** Runs a short campaign, with a seed that a failure reports. */
const campaign = async (millis: number, make: (random: Random.Random) => Promise<Stores.Store>) => {
  const seed = Date.now() % 1_000_000
  const random = Random.make(seed)
  const store = await make(random)
  try {
    return await Campaign.run({ store, random, seed, millis, restMillis: 1_000 })
  } finally {
    await store.close()
  }
}

/** Fails unless the campaign has looked at what matters most. */
const assertChecked = ({ verdict }: Campaign.Result) => {
  for (
    const check of [
      "an acknowledged append is stored",
      "a run ends exactly once",
      "what was revoked stays refused",
      "a node comes back"
    ]
  ) {
    assert.isAbove(verdict.checked.get(check) ?? 0, 0, check)
  }
}

describe("a backend under faults", () => {
  it("OPS-01 BOOT-03 SESS-05 RUN-04 RUN-06 FEED-01: keeps its promises on an SQLite file", async () => {
    const result = await campaign(25_000, (random) => Promise.resolve(Stores.sqlite(random)))
    assert.lengthOf(result.verdict.violations, 0, report([result]))
    assertChecked(result)
  })

  it("OPS-01 BOOT-03 SESS-05 RUN-04 RUN-06 FEED-01: keeps its promises on PostgreSQL with two nodes", async () => {
    // A fault crashes the server, and other tests use theirs.
    const server = await spawnPostgres()
    try {
      const result = await campaign(30_000, (random) => Stores.postgres(random, server.address))
      assert.lengthOf(result.verdict.violations, 0, report([result]))
      assertChecked(result)
    } finally {
      await server.stop()
    }
  })
})
