/**
 * Draws numbers from a seed, so that a campaign can be repeated as far as the timing of processes allows.
 */

/** Draws numbers. */
export interface Random {
  /** Returns a number from 0 to 1, without 1. */
  readonly next: () => number
  /** Returns a whole number from `least` to `most`, with both. */
  readonly between: (least: number, most: number) => number
  /** Returns an element, or `undefined` of an empty list. */
  readonly pick: <A>(from: ReadonlyArray<A>) => A | undefined
}

/** Returns a source of numbers that depends on the seed alone (mulberry32). */
export const make = (seed: number): Random => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return {
    next,
    between: (least, most) => least + Math.floor(next() * (most - least + 1)),
    pick: (from) => from[Math.floor(next() * from.length)]
  }
}
