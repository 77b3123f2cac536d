/**
 * How a request signs in by a pairing code.
 */
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import {
  BootstrapCredentialService,
  type BootstrapStoreUnavailable,
  type InvalidCredential,
  type MalformedCode,
  type RedeemOptions,
  type TooManyAttempts
} from "@sallyport/core/access/BootstrapCredentialService"
import type { SessionMethod } from "@sallyport/core/access/Session"
import * as Text from "@sallyport/core/Text"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as SessionCookie from "../SessionCookie.ts"
import { challenge } from "./challenge.ts"
import { currentSession } from "./cookieSession.ts"
import * as Wire from "./wire.ts"

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

/** Fails if the policy in force has no sessions of a method, before anything is used up for one. */
export const offersMethod = <E, R>(
  method: SessionMethod,
  refuse: (reason: { readonly message: string }) => Effect.Effect<never, E, R>
): Effect.Effect<void, E, R | AuthPolicy> =>
  Effect.flatMap(AuthPolicy, ({ sessionMethods }) =>
    sessionMethods.includes(method)
      ? Effect.void
      : refuse({ message: `Under the policy in force there are no sessions of the method ${method}` }))

/** Answers why a pairing code lets no one in. */
export const codeRefusals = {
  MalformedCode: (reason: MalformedCode) => Wire.malformedCode(reason),
  InvalidCredential: (reason: InvalidCredential) => Effect.andThen(challenge(), Wire.invalidCredential(reason)),
  TooManyAttempts: (reason: TooManyAttempts) => Wire.rateLimited(reason),
  BootstrapStoreUnavailable: (reason: BootstrapStoreUnavailable) => Wire.unavailable(reason)
}

/**
 * Signs in the browser that sends the current request. A browser has one session of this server: the one that it had until
 * now ends when the new one begins.
 */
export const signInBrowser = Effect.fnUntraced(function*(
  options: Pick<RedeemOptions<never, never>, "attemptKey" | "credential"> & { readonly label?: string | undefined }
) {
  yield* offersMethod("browser-session-cookie", Wire.methodNotOffered)
  const before = yield* currentSession
  const { session, token } = yield* signIn({
    ...options,
    method: "browser-session-cookie",
    replaces: before?.method === "browser-session-cookie" ? before.id : undefined
  })
  yield* SessionCookie.set(token)
  return session
}, (effect) =>
  effect.pipe(
    Effect.catchReasons("SessionCredentialError", {
      SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
    }, (reason) => Effect.die(reason)),
    Effect.catchReasons("BootstrapCredentialError", codeRefusals, (reason) => Effect.die(reason))
  ))
