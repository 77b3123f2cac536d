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

/** Describes a row of the report: a path, our rate, and the rate that it is compared with. */
export interface Row {
  readonly path: string
  readonly ours: number
  readonly against: string
  readonly theirs: number
  /** The least ratio that the design asks for; null if it asks for none. */
  readonly atLeast: number | null
}

const format = (value: number): string =>
  value >= 1e6
    ? `${(value / 1e6).toFixed(2)} M/s`
    : value >= 1e3
    ? `${(value / 1e3).toFixed(1)} k/s`
    : `${value.toFixed(0)} /s`

/** Prints rows as a table of ratios, and marks those below the asked ratio. */
export const report = (title: string, rows: ReadonlyArray<Row>): void => {
  const table = rows.map(({ against, atLeast, ours, path, theirs }) => {
    const ratio = ours / theirs
    return [
      path,
      format(ours),
      against,
      format(theirs),
      `${ratio.toFixed(2)} ×`,
      atLeast === null ? "" : `≥ ${atLeast} ×`,
      atLeast === null ? "" : ratio >= atLeast ? "met" : "MISSED"
    ]
  })
  const head = ["path", "ours", "against", "theirs", "ratio", "asked", ""]
  const widths = head.map((cell, column) => Math.max(cell.length, ...table.map((row) => row[column]?.length ?? 0)))
  const line = (cells: ReadonlyArray<string>) =>
    `  ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()}`
  console.log([title, line(head), line(widths.map((width) => "-".repeat(width))), ...table.map(line), ""].join("\n"))
}
