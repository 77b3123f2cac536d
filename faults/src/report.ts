/**
 * Writes results as tables of Markdown.
 */
import type { Result } from "./campaign.ts"

const rows = (head: string, columns: ReadonlyArray<ReadonlyMap<string, number>>, names: ReadonlyArray<string>) => [
  `| ${[head, ...names].join(" | ")} |`,
  `| --- |${" ---: |".repeat(names.length)}`,
  ...[...new Set(columns.flatMap((column) => [...column.keys()]))].map((name) =>
    `| ${[name, ...columns.map((column) => String(column.get(name) ?? 0))].join(" | ")} |`
  )
]

/** Returns the faults by kind, the checks by kind, and each violation with its evidence and the seed. */
export const report = (results: ReadonlyArray<Result>): string => {
  const names = results.map(({ store }) => store)
  return [
    "",
    ...rows("fault injected", results.map(({ injected }) => injected), names),
    "",
    ...rows("checked", results.map(({ verdict }) => verdict.checked), names),
    "",
    ...results.flatMap(({ seed, store, verdict: { violations } }) => [
      `${store}, seed ${seed}: ${violations.length === 0 ? "no violations" : `${violations.length} violations`}`,
      ...violations.slice(0, 50).map(({ check, evidence }) => `  ${check}: ${evidence.slice(0, 1_000)}`)
    ])
  ].join("\n")
}
