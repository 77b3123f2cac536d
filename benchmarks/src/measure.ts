/**
 * Measures contestants in turns, so that a machine that slows down slows all of them, and reports medians.
 */

/** Describes something to measure: a batch of `operations` at each call. */
export interface Contestant {
  readonly name: string
  readonly operations: number
  readonly run: () => Promise<void> | void
}

/**
 * Returns the median rate of each contestant, in operations per second, over a number of rounds after a warm-up round.
 */
export const rates = async (
  contestants: ReadonlyArray<Contestant>,
  rounds = 7
): Promise<ReadonlyMap<string, number>> => {
  const samples = new Map<string, Array<number>>(contestants.map(({ name }) => [name, []]))
  for (let round = 0; round <= rounds; round++) {
    for (const contestant of contestants) {
      const start = performance.now()
      await contestant.run()
      const seconds = (performance.now() - start) / 1000
      if (round > 0) samples.get(contestant.name)?.push(contestant.operations / seconds)
    }
  }
  return new Map(Array.from(samples, ([name, values]) => [name, median(values)]))
}

/** Returns the middle of some numbers. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** Describes a row of the report: a path, what ours needs or does, and what it is compared with. */
export interface Row {
  readonly path: string
  /** How many rows are stored, of a path that is measured with several numbers of them. */
  readonly size?: number | undefined
  readonly ours: number
  readonly against: string
  readonly theirs: number
  /** What is counted: operations a second, of which more is better, or something of which less is better. */
  readonly unit?: "s" | "ms" | "µs" | "KiB" | undefined
  /** The ratio that the design asks for, at least of a rate and at most of anything else; null if it asks for none. */
  readonly asked: number | null
}

/** Describes rows that are measured together. */
export interface Section {
  /** What the paths of its rows have in common; `--only` chooses by it. */
  readonly name: string
  /** Measures, with a directory for its files. */
  readonly measure: (directory: string) => Promise<ReadonlyArray<Row>>
}
