import { assert } from "@effect/vitest"
import type { AccessEvent } from "@sallyport/core/AccessEvent"

/** What came of a sequence of steps: the answer of each, and the feed after all of them. */
interface Played {
  readonly answers: ReadonlyArray<unknown>
  readonly events: ReadonlyArray<AccessEvent>
}

/**
 * Compares what an adapter made of a sequence of steps with what the memory adapter did. A failure names the operation
 * whose doc comment says what was expected, and the steps that led to it.
 */
export const assertSame = (
  port: string,
  steps: ReadonlyArray<{ readonly _tag: string }>,
  found: Played,
  expected: Played
): void => {
  steps.forEach((step, index) => {
    const before = steps.slice(0, index + 1).map((step) => JSON.stringify(step)).join("\n")
    assert.deepStrictEqual(
      found.answers[index],
      expected.answers[index],
      `${port}.${step._tag} does not answer as its contract says. The last of these steps:\n${before}\n`
    )
  })
  assert.deepStrictEqual(
    found.events,
    expected.events,
    `${port} answers as its contract says, but does not append to the access feed what it says, after these steps:\n` +
      `${steps.map((step) => JSON.stringify(step)).join("\n")}\n`
  )
}
