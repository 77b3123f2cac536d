import { assert, describe, it } from "@effect/vitest"
import * as Random from "../src/random.ts"
import * as Trend from "../src/trend.ts"

const options = { share: 0.1, slack: 5 }

/** Makes a series with noise, and now and then a value that is far off. */
const series = (seed: number, value: (index: number) => number) => {
  const random = Random.make(seed)
  return Array.from(
    { length: 120 },
    (_, index) => value(index) + random.between(-8, 8) + (random.next() < 0.05 ? 200 : 0)
  )
}

describe("the trend of a measure", () => {
  it("is growth if it leaks a little with each sample", () => {
    for (let seed = 1; seed <= 50; seed++) {
      assert.isTrue(Trend.of(series(seed, (index) => 100 + index * 0.5), options).isGrowing, `seed ${seed}`)
    }
  })

  it("is none if it is level, falls, or has grown only while caches filled", () => {
    for (let seed = 1; seed <= 50; seed++) {
      for (
        const value of [() => 100, (index: number) => 100 - index, (index: number) => 100 + Math.min(index, 40) * 3]
      ) {
        assert.isFalse(Trend.of(series(seed, value), options).isGrowing, `seed ${seed}`)
      }
    }
  })
})
