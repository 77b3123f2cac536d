import { assert, describe, it } from "@effect/vitest"
import { inject } from "vitest"
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
    const result = await campaign(45_000, (random) => Promise.resolve(Stores.sqlite(random)))
    assert.lengthOf(result.verdict.violations, 0, report([result]))
    assertChecked(result)
  })

  it("OPS-01 BOOT-03 SESS-05 RUN-04 RUN-06 FEED-01: keeps its promises on PostgreSQL with two nodes", async () => {
    const result = await campaign(30_000, async (random) => {
      const store = await Stores.postgres(random, inject("postgres"))
      // Other tests use the server too; and docs/reliability.md says what silent connections still do. `npm run faults` has both.
      const left = new Set(["PostgreSQL crashed", "connections half-open"])
      return { ...store, faults: store.faults.filter(({ kind }) => !left.has(kind)) }
    })
    // An append to a stream can wait for longer than a deadline after a connection was cut: docs/reliability.md.
    const violations = result.verdict.violations.filter((violation) =>
      !/POST \/streams\/\w+ on node \d+ had no answer/.test(JSON.stringify(violation))
    )
    assert.lengthOf(violations, 0, report([result]))
    assertChecked(result)
  })
})
