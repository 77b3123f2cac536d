/** Sums up the rows of one run or of several, and writes them down: as a table to read, in Markdown, and as a picture. */
import { median, type Row } from "./measure.ts"

type Range = readonly [least: number, most: number]

/** Describes a row as it is reported: medians, and from what to what the values of several runs went. */
export interface Result extends Row {
  /** The suite and the section that measured it. */
  readonly section: string
  readonly ratio: number
  readonly spread?: { readonly ours: Range; readonly theirs: Range; readonly ratio: Range } | undefined
}

const isSame = (a: Row, b: Row): boolean => a.path === b.path && a.size === b.size && a.against === b.against

/** Sums up a section that was measured once or several times. The ratio is the median of the ratios, not that of the medians. */
export const sumUp = (section: string, runs: ReadonlyArray<ReadonlyArray<Row>>): ReadonlyArray<Result> =>
  (runs[0] ?? []).map((row) => {
    const same = runs.flatMap((rows) => rows.filter((other) => isSame(row, other)))
    const values = {
      ours: same.map(({ ours }) => ours),
      theirs: same.map(({ theirs }) => theirs),
      ratio: same.map(({ ours, theirs }) => ours / theirs)
    }
    const range = (numbers: ReadonlyArray<number>): Range => [Math.min(...numbers), Math.max(...numbers)]
    return {
      ...row,
      section,
      ours: median(values.ours),
      theirs: median(values.theirs),
      ratio: median(values.ratio),
      ...runs.length === 1
        ? {}
        : { spread: { ours: range(values.ours), theirs: range(values.theirs), ratio: range(values.ratio) } }
    }
  })

const scaleOf = (value: number, unit: Row["unit"]): readonly [divisor: number, digits: number, unit: string] =>
  unit !== undefined
    ? [1, 1, unit]
    : value >= 1e6
    ? [1e6, 2, "M/s"]
    : value >= 1e3
    ? [1e3, 1, "k/s"]
    : [1, 0, "/s"]

/** Tells from what to what values went, unless all are the same as far as they are told. */
const between = (range: Range | undefined, divisor: number, digits: number): string => {
  const [least, most] = (range ?? [0, 0]).map((value) => (value / divisor).toFixed(digits))
  return least === most ? "" : ` (${least}–${most})`
}

const quantity = (value: number, unit: Row["unit"], range: Range | undefined): string => {
  const [divisor, digits, suffix] = scaleOf(value, unit)
  return `${(value / divisor).toFixed(digits)} ${suffix}${between(range, divisor, digits)}`
}

const ratioOf = ({ ratio, spread }: Result): string => `${ratio.toFixed(2)} ×${between(spread?.ratio, 1, 2)}`

const askedOf = ({ asked, unit }: Row): string => asked === null ? "" : `${unit === undefined ? "≥" : "≤"} ${asked} ×`

const isMissed = ({ asked, ratio, unit }: Result): boolean =>
  asked !== null && (unit === undefined ? ratio < asked : ratio > asked)

const count = (value: number): string => value.toLocaleString("en-US")

/**
 * Prints rows as a table of ratios, and marks those that miss the asked ratio. With `before`, rows of an earlier run, their
 * ratios stand beside those of now.
 */
export const print = (rows: ReadonlyArray<Result>, before: ReadonlyArray<Row> | undefined): void => {
  const table = rows.map((row) => {
    const earlier = before?.find((other) => isSame(row, other))
    return [
      row.size === undefined ? row.path : `${row.path}, ${count(row.size)} rows`,
      quantity(row.ours, row.unit, row.spread?.ours),
      row.against,
      quantity(row.theirs, row.unit, row.spread?.theirs),
      ratioOf(row),
      ...before === undefined ? [] : [earlier === undefined ? "" : `${(earlier.ours / earlier.theirs).toFixed(2)} ×`],
      askedOf(row),
      row.asked === null ? "" : isMissed(row) ? "MISSED" : "met"
    ]
  })
  const earlier = before === undefined ? [] : ["before"]
  const head = ["path", "ours", "against", "theirs", "ratio", ...earlier, "asked", ""]
  const widths = head.map((cell, column) => Math.max(cell.length, ...table.map((row) => row[column]?.length ?? 0)))
  const line = (cells: ReadonlyArray<string>) =>
    `  ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()}`
  console.log(
    [rows[0]?.section, line(head), line(widths.map((width) => "-".repeat(width))), ...table.map(line), ""].join("\n")
  )
}

const markdownTable = (head: ReadonlyArray<string>, lines: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

/** Returns the paths that were measured with several numbers of rows, each with its rows in the order of these numbers. */
const curvesOf = (rows: ReadonlyArray<Result>): ReadonlyArray<readonly [path: string, rows: ReadonlyArray<Result>]> => {
  const sized = rows.filter(({ size }) => size !== undefined)
  return [...new Set(sized.map(({ path }) => path))].map((path) => [path, sized.filter((row) => row.path === path)])
}

const markdown = (rows: ReadonlyArray<Result>): string => {
  const curves = curvesOf(rows)
  if (curves.length > 0) {
    const sizes = curves[0]?.[1].map(({ size = 0 }) => count(size)) ?? []
    return markdownTable(
      ["path", "with 10 rows", ...sizes],
      curves.map(([path, rows]) => [
        path,
        quantity(rows[0]?.theirs ?? Number.NaN, undefined, rows[0]?.spread?.theirs),
        ...rows.map((row) => `${ratioOf(row)}${isMissed(row) ? " (missed)" : ""}`)
      ])
    )
  }
  return markdownTable(
    ["path", "ours", "against", "theirs", "ratio", "asked"],
    rows.map((row) => [
      row.path,
      quantity(row.ours, row.unit, row.spread?.ours),
      row.against,
      quantity(row.theirs, row.unit, row.spread?.theirs),
      ratioOf(row),
      `${askedOf(row)}${isMissed(row) ? " (missed)" : ""}`
    ])
  )
}

/**
 * Replaces the tables of a page by those of some rows. A table stands between `<!-- rows: … -->`, with the beginnings of the
 * names of its sections, parted by semicolons, and `<!-- end of rows -->`. It stays as it is if none of the rows is of them.
 */
export const replaceTables = (page: string, rows: ReadonlyArray<Result>): string =>
  page.replaceAll(/(<!-- rows: (.*) -->\n)[^]*?(?=<!-- end of rows -->)/g, (table, mark: string, names: string) => {
    const chosen = rows.filter(({ section }) => names.split(";").some((name) => section.startsWith(name.trim())))
    return chosen.length === 0 ? table : `${mark}\n${markdown(chosen)}\n\n`
  })

const colours = ["#c2410c", "#0e7490", "#6d28d9", "#4d7c0f", "#be185d", "#1d4ed8", "#a16207", "#0f766e"]
const darkColours = ["#fb923c", "#22d3ee", "#c4b5fd", "#a3e635", "#f9a8d4", "#93c5fd", "#fde047", "#5eead4"]

/** Draws how each path goes with many rows, as a part of how it goes with ten. */
export const picture = (rows: ReadonlyArray<Result>): string | undefined => {
  const curves = curvesOf(rows)
  const [[, sizes] = ["", []]] = curves
  if (sizes.length === 0) return undefined
  const [left, right, top, bottom] = [48, 724, 24, 304]
  const most = Math.max(1.4, ...curves.flatMap(([, rows]) => rows.map(({ ratio }) => ratio)))
  const x = (index: number) => left + (right - left) * index / sizes.length
  const y = (ratio: number) => Math.round(bottom - (bottom - top) * ratio / most)
  const text = (x: number, y: number, anchor: string, words: string) =>
    `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`
  const level = (ratio: number, dashes: string) =>
    `<path class="level" stroke-dasharray="${dashes}" d="M${left} ${y(ratio)}H${right}"/>` +
    text(left - 8, y(ratio) + 4, "end", ratio.toFixed(1))
  const height = bottom + 44 + 22 * Math.ceil(curves.length / 3)
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 768 ${height}" role="img" aria-labelledby="title">
<title id="title">The rate of each path with many rows, as a part of its rate with 10 rows</title>
<style>
text { font: 12px system-ui, sans-serif; fill: #3f3f46 }
.panel { fill: #fff }
.level { stroke: #a1a1aa; fill: none }
.curve { fill: none; stroke-width: 2 }
${colours.map((colour, index) => `.c${index} { stroke: ${colour} }`).join("\n")}
@media (prefers-color-scheme: dark) {
text { fill: #d4d4d8 }
.panel { fill: #18181b }
.level { stroke: #71717a }
${darkColours.map((colour, index) => `.c${index} { stroke: ${colour} }`).join("\n")}
}
</style>
<rect class="panel" width="768" height="${height}" rx="8"/>
${[level(0, "none"), level(0.5, "1 5"), level(0.8, "6 4"), level(1, "none")].join("\n")}
${
    [10, ...sizes.map(({ size = 0 }) => size)].map((size, index) => text(x(index), bottom + 18, "middle", count(size)))
      .join("\n")
  }
${
    curves.map(([path, rows], curve) => {
      const place = [left + (curve % 3) * 236, bottom + 46 + 22 * Math.floor(curve / 3)] as const
      const kind = `class="curve c${curve % colours.length}" stroke-dasharray="${["none", "8 3", "2 3"][curve % 3]}"`
      const line = rows.map(({ ratio }, index) => `L${x(index + 1).toFixed(0)} ${y(ratio)}`).join("")
      return `<path ${kind} d="M${left} ${y(1)}${line}"/>
<path ${kind} d="M${place[0]} ${place[1] - 4}h24"/>${text(place[0] + 32, place[1], "start", path)}`
    }).join("\n")
  }
</svg>
`
}
