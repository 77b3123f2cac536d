/**
 * The cookie that carries a browser's session token.
 */
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

const baseName = "sallyport_session"

/** How long a browser keeps the cookie: longer than any session lives without use; the row decides when it ends. */
const browserLifetime = Duration.days(400)

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
 * Returns the token that a request carries in its cookie.
 *
 * @category operations
 * @since 0.1.0
 */
export const read = (
  request: HttpServerRequest.HttpServerRequest,
  secure: boolean
): Option.Option<Redacted.Redacted> => {
  const value = request.cookies[name(request.headers.host, secure)]
  return value === undefined || value === ""
    ? Option.none()
    : Option.some(Redacted.make(value, { label: "session-token" }))
}

const write = (value: string, maxAge: Duration.Duration) =>
  Effect.gen(function*() {
    const { secureCookies } = yield* AuthPolicy
    // The one that the handlers see: a trusted proxy may have told its host.
    const request = yield* HttpServerRequest.HttpServerRequest
    yield* HttpEffect.appendPreResponseHandler((_request, response) =>
      // Neither the name nor the token holds a character that a cookie can't.
      Effect.orDie(
        HttpServerResponse.setCookie(response, name(request.headers.host, secureCookies), value, {
          httpOnly: true,
          sameSite: "lax",
          path: "/",
          secure: secureCookies,
          maxAge
        })
      )
    )
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
  write(Redacted.value(token), browserLifetime)

/**
 * Removes the cookie with the response to the current request.
 *
 * @category operations
 * @since 0.1.0
 */
export const clear: Effect.Effect<void, never, AuthPolicy | HttpServerRequest.HttpServerRequest> = write(
  "",
  Duration.zero
)
