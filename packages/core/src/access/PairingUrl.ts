/**
 * The address that pairs the browser that opens it.
 *
 * The code stands in the fragment, which browsers neither send to a server nor write into a `Referer`, and the path is
 * the pairing page itself, so no redirect can lose it.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * Reports a base URL from which no pairing address can be made, quoted without user information.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidBaseUrl extends Schema.TaggedError<InvalidBaseUrl>()("InvalidBaseUrl", {
  baseUrl: Schema.String
}) {
  override get message() {
    const quoted = JSON.stringify(this.baseUrl)
    return `${quoted} is not an http, https, ws or wss URL; give the address that a browser would open, such as ` +
      `http://127.0.0.1:4590`
  }
}

/**
 * Names the page, below the base URL's path, that reads the code.
 *
 * @category constants
 * @since 0.1.0
 */
export const path = "/pair"

/**
 * Turns the address of a server as a person or a configuration gives it into the one its HTTP routes stand under.
 *
 * `ws` and `wss` become `http` and `https`; a query, a fragment, user information, a trailing slash and a final `/ws` are
 * dropped; any other path is kept, since a host may mount the routes under a prefix.
 *
 * @category converting
 * @since 0.1.0
 */
export const httpBase = (baseUrl: string): Result.Result<string, InvalidBaseUrl> => {
  // A caller without a compiler may give none.
  const text = typeof baseUrl === "string" ? baseUrl : ""
  const url = URL.parse(text.trim())
  const protocol = url === null ? undefined : httpProtocols[url.protocol]
  if (url === null || protocol === undefined || url.hostname === "") {
    // What stands before the "@" may be a password, and errors are logged.
    return Result.fail(new InvalidBaseUrl({ baseUrl: text.replace(/^(\w+:\/\/)?.*@/s, "$1").slice(0, 256) }))
  }
  const pathname = url.pathname.replace(/(?<!\/)\/+$/, "").replace(/(?<!\/)\/+ws$/, "")
  return Result.succeed(`${protocol}//${url.host}${pathname}`)
}

const httpProtocols: Record<string, string> = { "http:": "http:", "https:": "https:", "ws:": "http:", "wss:": "https:" }

/**
 * Makes the pairing address: the page below `baseUrl`, with the code in the fragment as `#token=`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  baseUrl: string,
  code: Redacted.Redacted
): Result.Result<Redacted.Redacted, InvalidBaseUrl> =>
  Result.map(
    httpBase(baseUrl),
    (base) =>
      Redacted.make(`${base}${path}#token=${encodeURIComponent(Redacted.value(code))}`, { label: "pairing-url" })
  )
