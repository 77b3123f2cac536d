/**
 * Tells growth from noise in what is measured again and again.
 */

/** Holds values of one measure, the oldest first, at even intervals. */
export type Series = ReadonlyArray<number>

const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((left, right) => left - right)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] ?? 0 : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}

/** Says how a measure went after the warm-up. */
export interface Trend {
  readonly median: number
  /** By how much it has grown over the time measured, by the median of the slopes between all pairs of values. */
  readonly growth: number
  /** By how much it may grow in that time. */
  readonly allowed: number
  readonly isGrowing: boolean
}

/**
 * Returns the trend of a series without its first third, in which caches fill. A few outliers change nothing (Theil and
 * Sen). Growth up to a share of the median, or up to `slack`, counts as none.
 */
export const of = (series: Series, options: { readonly share: number; readonly slack: number }): Trend => {
  const values = series.slice(Math.floor(series.length / 3))
  const slopes = values.flatMap((value, index) =>
    values.slice(index + 1).map((later, distance) => (later - value) / (distance + 1))
  )
  const growth = slopes.length === 0 ? 0 : median(slopes) * (values.length - 1)
  const allowed = Math.max(options.slack, options.share * median(values))
  return { median: median(values), growth, allowed, isGrowing: growth > allowed }
}
