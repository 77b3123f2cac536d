/**
 * What an answer to a request that is turned away says of how to do better.
 */
import { AuthorizationServer } from "@sallyport/core/access/AuthorizationServer"
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Address from "./address.ts"
import * as Dpop from "./dpop.ts"

/**
 * Says, on an answer 401 or 403 to the current request, how to do better (RFC 9110 section 11.6.1), with further
 * parameters as RFC 6750 section 3 defines them.
 */
export const challenge = (
  parameters: Readonly<Record<string, string>> = {}
): Effect.Effect<void, never, HttpServerRequest.HttpServerRequest> => {
  return setChallenges([["Bearer", parameters]])
}

/** Names the resource of the current request as an authorization server knows it, or nothing if it is the API. */
export const CurrentResource = Context.Reference<string | undefined>("@sallyport/http/Authentication/CurrentResource", {
  defaultValue: () => undefined
})

/**
 * Says where the metadata of the current request's resource is (RFC 9728 section 5.1), and what to ask for: all that a client
 * can be granted for it, so that it comes back once. Nothing if this is no authorization server.
 */
const discovery = Effect.gen(function*() {
  const server = Option.getOrUndefined(yield* Effect.serviceOption(AuthorizationServer))
  const policy = Option.getOrUndefined(yield* Effect.serviceOption(AuthPolicy))
  if (server === undefined || policy === undefined) return {}
  const base = yield* Effect.provideService(Address.base, AuthPolicy, policy)
  if (base === "") return {}
  const resource = yield* CurrentResource
  const { scopes } = server.resources.find((one) => one.resource === resource) ?? server
  const path = `${new URL(base).pathname}${resource ?? server.prefix}`.replace(/^\/(?=\/)|^\/$/, "")
  return {
    resource_metadata: `${new URL(base).origin}/.well-known/oauth-protected-resource${path}`,
    ...(scopes.length === 0 ? {} : { scope: scopes.join(" ") })
  }
})

/**
 * Says the same for a request with a bound token: which algorithms a proof may have, and what is wrong (RFC 9449 section
 * 7.1).
 */
export const dpopChallenge = (parameters: Readonly<Record<string, string>> = {}) =>
  setChallenges([["DPoP", { ...parameters, algs: Dpop.algs }]])

/** Says for a request without a credential which ones are taken. */
export const openChallenge = Effect.flatMap(
  Dpop.offered,
  (dpop) => setChallenges(Option.isSome(dpop) ? [["Bearer", {}], ["DPoP", { algs: Dpop.algs }]] : [["Bearer", {}]])
)

const setChallenges = (
  challenges: ReadonlyArray<readonly [scheme: string, parameters: Readonly<Record<string, string>>]>
): Effect.Effect<void, never, HttpServerRequest.HttpServerRequest> => {
  return Effect.flatMap(discovery, (discovery) => {
    const value = challenges.map(([scheme, parameters], index) =>
      `${scheme} ${
        Object.entries({ realm: "sallyport", ...(index === 0 ? discovery : {}), ...parameters })
          .map(([key, text]) => `${key}="${text}"`).join(", ")
      }`
    ).join(", ")
    return HttpEffect.appendPreResponseHandler((_request, response) =>
      Effect.succeed(
        response.status === 401 || response.status === 403
          ? HttpServerResponse.setHeader(response, "www-authenticate", value)
          : response
      )
    )
  })
}
