/**
 * Patterns over paths: `*` stands for one segment or a part of one, `**` for any number of segments.
 */

const escape = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")

const segment = (text: string): string => text.split("*").map(escape).join("[^/]*")

/** Makes a function that tells whether a path matches. */
export const matcher = (pattern: string): (path: string) => boolean => {
  // `**` takes the separator after it along, so that it may stand for nothing.
  const parts = pattern.split("/")
  const source = parts.map((part, index) => {
    const isLast = index === parts.length - 1
    if (part === "**") return isLast ? "(?:[^/]+(?:/[^/]+)*)?" : "(?:[^/]+/)*"
    return segment(part) + (isLast ? "" : "/")
  }).join("")
  const expression = new RegExp(`^${source}$`, "u")
  return (path) => expression.test(path)
}

/** Returns what every path that matches begins with. */
export const literalPrefix = (pattern: string): string => pattern.slice(0, Math.max(0, (`${pattern}*`).indexOf("*")))
