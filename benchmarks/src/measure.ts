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

const format = (value: number, unit: Row["unit"]): string =>
  unit !== undefined
    ? `${value.toFixed(1)} ${unit}`
    : value >= 1e6
    ? `${(value / 1e6).toFixed(2)} M/s`
    : value >= 1e3
    ? `${(value / 1e3).toFixed(1)} k/s`
    : `${value.toFixed(0)} /s`

const isMet = ({ asked, ours, theirs, unit }: Row): boolean =>
  asked === null || (unit === undefined ? ours / theirs >= asked : ours / theirs <= asked)

/**
 * Prints rows as a table of ratios, and marks those that miss the asked ratio. With `before`, rows of an earlier run, their
 * ratios stand beside those of now.
 */
export const report = (title: string, rows: ReadonlyArray<Row>, before: ReadonlyArray<Row> | undefined): void => {
  const table = rows.map((row) => {
    const earlier = before?.find(({ against, path }) => path === row.path && against === row.against)
    return [
      row.path,
      format(row.ours, row.unit),
      row.against,
      format(row.theirs, row.unit),
      `${(row.ours / row.theirs).toFixed(2)} ×`,
      ...(before === undefined ? [] : [earlier === undefined ? "" : `${(earlier.ours / earlier.theirs).toFixed(2)} ×`]),
      row.asked === null ? "" : `${row.unit === undefined ? "≥" : "≤"} ${row.asked} ×`,
      row.asked === null ? "" : isMet(row) ? "met" : "MISSED"
    ]
  })
  const earlier = before === undefined ? [] : ["before"]
  const head = ["path", "ours", "against", "theirs", "ratio", ...earlier, "asked", ""]
  const widths = head.map((cell, column) => Math.max(cell.length, ...table.map((row) => row[column]?.length ?? 0)))
  const line = (cells: ReadonlyArray<string>) =>
    `  ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()}`
  console.log([title, line(head), line(widths.map((width) => "-".repeat(width))), ...table.map(line), ""].join("\n"))
}
