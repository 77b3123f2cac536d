/**
 * Which addresses the server may be made to call. Names are not resolved here: a host whose network reaches private
 * addresses by name gives a policy, or an HTTP client, of its own.
 */

const isPrivateV4 = (name: string): boolean => {
  const [a = 0, b = 0] = name.split(".").map(Number)
  return a === 0 || a === 10 || a === 127 || a >= 224 || (a === 100 && b >= 64 && b < 128) ||
    (a === 169 && b === 254) ||
    (a === 172 && b >= 16 && b < 32) || (a === 192 && (b === 168 || b === 0)) || (a === 198 && (b === 18 || b === 19))
}

// Only global unicast, without the ranges that stand for IPv4 addresses or are for documentation.
const isPrivateV6 = (name: string): boolean => !/^\[[23]/.test(name) || /^\[(?:2002:|2001:(?:0?:|db8:))/.test(name)

/** Tells whether a URL leads to the machine itself, in the spellings that the protocol allows for development. */
export const isLoopback = (url: URL): boolean =>
  url.protocol === "http:" && (url.hostname === "localhost" || /^127\.0\.0\.\d+$/.test(url.hostname))

/** Tells whether a URL may be called: https, without credentials, at a public name or address. */
export const isPublic = (url: URL): boolean => {
  const name = url.hostname.toLowerCase().replace(/\.$/, "")
  if (url.protocol !== "https:" || url.username !== "" || url.password !== "") return false
  if (name.startsWith("[")) return !isPrivateV6(name)
  // The URL parser has written every form of an IPv4 address with four decimal numbers.
  if (/^\d+\.\d+\.\d+\.\d+$/.test(name)) return !isPrivateV4(name)
  return name.includes(".") && !/\.(?:localhost|local|internal|home\.arpa)$/.test(name)
}
