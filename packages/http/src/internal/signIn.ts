/**
 * How a request signs in, and whose browser sends it.
 */
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import { BootstrapCredentialService, type RedeemOptions } from "@sallyport/core/access/BootstrapCredentialService"
import { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as Text from "@sallyport/core/Text"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as SessionCookie from "../SessionCookie.ts"

/** Returns the session of the browser that sends the current request, if one of its cookies has a good one. */
export const currentSession = Effect.gen(function*() {
  const { secureCookies } = yield* AuthPolicy
  const sessions = yield* SessionCredentialService
  for (const token of SessionCookie.read(yield* HttpServerRequest.HttpServerRequest, secureCookies)) {
    const session = yield* sessions.verify(token).pipe(
      Effect.catchReason("SessionCredentialError", "SessionRefused", () => Effect.undefined)
    )
    if (session !== undefined) return session
  }
  return undefined
})

/** Redeems a credential for a session of the given method, which is that of the sender of the current request. */
export const signIn = <E = never, R = never>(
  options: Omit<RedeemOptions<E, R>, "device" | "methods" | "source"> & {
    readonly label?: string | undefined
    /** Whether the code was issued to the sender itself, which then came in by no method of the policy's. */
    readonly isDevice?: boolean | undefined
  }
) =>
  Effect.gen(function*() {
    const { isDevice, label, ...redemption } = options
    const request = yield* HttpServerRequest.HttpServerRequest
    const bootstrap = yield* BootstrapCredentialService
    return yield* bootstrap.redeem({
      ...redemption,
      device: {
        label: label ?? null,
        userAgent: Text.fromHeader(request.headers["user-agent"]),
        address: Option.getOrNull(request.remoteAddress)
      },
      source: Option.getOrUndefined(request.remoteAddress),
      methods: isDevice === true ? undefined : (yield* AuthPolicy).bootstrapMethods
    })
  })
