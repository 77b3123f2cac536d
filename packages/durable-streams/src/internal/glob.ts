/**
 * Patterns over paths: `*` stands for one segment or a part of one, `**` for zero or more segments. `%2A` is a star itself.
 */

const segmentsOf = (path: string): ReadonlyArray<string> => path.split("/").filter((segment) => segment !== "")

/** Tells whether a text is made of pieces, in their order, with anything between them. */
const isMade = ([first = "", ...others]: ReadonlyArray<string>, text: string): boolean => {
  const last = others.pop()
  if (last === undefined) return text === first
  if (!text.startsWith(first) || !text.endsWith(last)) return false
  let at = first.length
  for (const piece of others) {
    const found = text.indexOf(piece, at)
    if (found === -1) return false
    at = found + piece.length
  }
  return at + last.length <= text.length
}

/** What a segment of a pattern stands for: any number of segments, or one that is made of these pieces. */
type Part = "**" | ReadonlyArray<string>

/**
 * Tells whether a pattern matches a path. It goes back to the last `**` alone, since what those before it took can only be
 * less: its time is at most the product of both lengths, which only the engine's own search for a piece takes.
 */
const isMatch = (parts: ReadonlyArray<Part>, segments: ReadonlyArray<string>): boolean => {
  let at = 0
  let afterStars = -1
  let taken = 0
  for (let index = 0; index < segments.length;) {
    const part = parts[at]
    if (part === "**") {
      afterStars = ++at
      taken = index
    } else if (part !== undefined && isMade(part, segments[index] ?? "")) {
      at++
      index++
    } else if (afterStars >= 0) {
      at = afterStars
      index = ++taken
    } else return false
  }
  return parts.slice(at).every((part) => part === "**")
}

/** Makes a function that tells whether a path matches. */
export const matcher = (pattern: string): (path: string) => boolean => {
  const parts = segmentsOf(pattern).map((segment): Part =>
    segment === "**" ? segment : segment.split("*").map((piece) => piece.replaceAll(/%2a/gi, "*"))
  )
  return (path) => isMatch(parts, segmentsOf(path))
}

/** Returns what every path that matches begins with. */
export const literalPrefix = (pattern: string): string => segmentsOf(pattern).join("/").split(/\/?\*|%2a/i, 1)[0] ?? ""
