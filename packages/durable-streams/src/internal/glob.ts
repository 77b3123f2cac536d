/**
 * Patterns over paths: `*` stands for one segment or a part of one, `**` for zero or more segments. `%2A` is a star itself.
 */

/**
 * Tells whether a pattern matches all of the items, of which its stars take any number. It goes back to the last star alone,
 * since what the stars before it took can only be less: its time is at most the product of both lengths.
 */
const isMatch = <A>(
  pattern: ReadonlyArray<A>,
  items: ReadonlyArray<string>,
  isStar: (part: A) => boolean,
  fits: (part: A, item: string) => boolean
): boolean => {
  let at = 0
  let afterStar = -1
  let taken = 0
  for (let index = 0; index < items.length;) {
    const part = pattern[at]
    const item = items[index]
    if (part !== undefined && isStar(part)) {
      afterStar = ++at
      taken = index
    } else if (part !== undefined && item !== undefined && fits(part, item)) {
      at++
      index++
    } else if (afterStar >= 0) {
      at = afterStar
      index = ++taken
    } else return false
  }
  return pattern.slice(at).every(isStar)
}

// A star of the pattern, as opposed to one that is meant literally.
const star = Symbol("star")
const isStar = (part: symbol | string) => part === star
const isSame = (part: symbol | string, character: string) => part === character

const segmentsOf = (path: string): ReadonlyArray<string> => path.split("/").filter((segment) => segment !== "")

/** Makes a function that tells whether a path matches. */
export const matcher = (pattern: string): (path: string) => boolean => {
  const segments = segmentsOf(pattern).map((segment) =>
    segment === "**"
      ? star
      : Array.from(segment.matchAll(/%2a|./gisu), ([text]) => text === "*" ? star : text.length > 2 ? "*" : text)
  )
  return (path) =>
    isMatch(
      segments,
      segmentsOf(path),
      (part) => part === star,
      (part, segment) => typeof part !== "symbol" && isMatch(part, Array.from(segment), isStar, isSame)
    )
}

/** Returns what every path that matches begins with. */
export const literalPrefix = (pattern: string): string => segmentsOf(pattern).join("/").split(/\/?\*|%2a/i, 1)[0] ?? ""
