/**
 * The cookie that carries a browser's session token.
 */
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Redacted from "effect/Redacted"

const baseName = "sallyport_session"

/** How long a browser keeps the cookie: longer than any session lives without use; the row decides when it ends. */
const browserLifetime = Duration.days(400)

/** How many cookies of our name are looked at: each costs a check. */
const maxValues = 4

/**
 * Returns the cookie's name for the host that a request was sent to.
 *
 * Behind TLS it has the `__Host-` prefix (RFC 6265bis section 4.1.3.2). On a loopback address the name carries the port
 * instead: cookies are not kept apart by port, and another server on this machine must not receive the session under the
 * name that it reads.
 *
 * @category operations
 * @since 0.1.0
 */
export const name = (host: string | undefined, secure: boolean): string => {
  if (secure) return `__Host-${baseName}`
  const port = /:(\d{1,5})$/.exec(host ?? "")?.[1] ?? "80"
  return `${baseName}_${port}`
}

/**
 * Returns the tokens that a request carries in cookies of our name, at most 4.
 *
 * Another server on this machine can set a cookie of our name for a path of ours, and a browser then sends both. It sends
 * those of longer paths first (RFC 6265 section 5.4), and ours is for the whole server: the last comes first here.
 *
 * @category operations
 * @since 0.1.0
 */
export const read = (
  request: HttpServerRequest.HttpServerRequest,
  secure: boolean
): ReadonlyArray<Redacted.Redacted> => {
  const header = request.headers.cookie
  if (header === undefined) return []
  const prefix = `${name(request.headers.host, secure)}=`
  return header.split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(prefix) && pair.length > prefix.length)
    .slice(-maxValues)
    .toReversed()
    .map((pair) => Redacted.make(pair.slice(prefix.length).replace(/^"(.*)"$/, "$1"), { label: "session-token" }))
}

const write = (value: string, maxAge: Duration.Duration, paths: (path: string) => ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const { secureCookies } = yield* AuthPolicy
    // The one that the handlers see: a trusted proxy may have told its host.
    const request = yield* HttpServerRequest.HttpServerRequest
    const cookieName = name(request.headers.host, secureCookies)
    const url = URL.parse(request.originalUrl, "http://localhost")
    yield* HttpEffect.appendPreResponseHandler((_request, response) => {
      const cookies: Record<string, Cookies.Cookie> = { ...response.cookies.cookies }
      for (const path of paths(url?.pathname ?? "/")) {
        // Neither the name nor the token holds a character that a cookie can't. A browser tells cookies of one name apart by
        // their paths, and so does the key here.
        cookies[`${cookieName} ${path}`] = Cookies.makeCookieUnsafe(cookieName, value, {
          httpOnly: true,
          sameSite: "lax",
          path,
          secure: secureCookies,
          maxAge
        })
      }
      return Effect.succeed(HttpServerResponse.replaceCookies(response, Cookies.fromReadonlyRecord(cookies)))
    })
  })

/**
 * Sets the cookie on the response to the current request: `HttpOnly; SameSite=Lax; Path=/`, and `Secure` behind TLS.
 *
 * @category operations
 * @since 0.1.0
 */
export const set = (
  token: Redacted.Redacted
): Effect.Effect<void, never, AuthPolicy | HttpServerRequest.HttpServerRequest> =>
  write(Redacted.value(token), browserLifetime, () => ["/"])

/**
 * Removes the cookie with the response to the current request: ours, and if the request carries more of our name, those
 * for the paths that this request is below.
 *
 * @category operations
 * @since 0.1.0
 */
export const clear: Effect.Effect<void, never, AuthPolicy | HttpServerRequest.HttpServerRequest> = Effect.gen(
  function*() {
    const { secureCookies } = yield* AuthPolicy
    const shadowed = read(yield* HttpServerRequest.HttpServerRequest, secureCookies).length > 1
    yield* write("", Duration.zero, (path) => shadowed ? pathsAbove(path) : ["/"])
  }
)

/** Returns the paths of the cookies that a browser sends to an address: `/`, `/api`, `/api/` and so on. */
const pathsAbove = (path: string): ReadonlyArray<string> => {
  const paths = ["/"]
  let above = ""
  for (const segment of path.split("/").filter((segment) => segment !== "")) {
    above += `/${segment}`
    paths.push(above, `${above}/`)
  }
  return paths
}
