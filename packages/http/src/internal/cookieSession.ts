/**
 * Whose cookie a browser sends. Another one of our name may come with it, such as one that a neighbouring server has set.
 */
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import type { Session } from "@sallyport/core/access/Session"
import {
  type SessionCredentialError,
  SessionCredentialService,
  type Use
} from "@sallyport/core/access/SessionCredentialService"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as Redacted from "effect/Redacted"
import * as SessionCookie from "../SessionCookie.ts"

/** Returns the session of the first token that has one, and fails as the last does. */
export const verifyFirst = (
  sessions: SessionCredentialService["Service"],
  [token, ...others]: Arr.NonEmptyReadonlyArray<Redacted.Redacted>,
  use?: Use
): Effect.Effect<Session, SessionCredentialError> =>
  Arr.isReadonlyArrayNonEmpty(others)
    ? Effect.catchReason(
      sessions.verify(token, use),
      "SessionCredentialError",
      "SessionRefused",
      () => verifyFirst(sessions, others, use)
    )
    : sessions.verify(token, use)

/** Returns the session of the browser that sends the current request, if one of its cookies has a good one. */
export const currentSession = Effect.gen(function*() {
  const { secureCookies } = yield* AuthPolicy
  const cookies = SessionCookie.read(yield* HttpServerRequest.HttpServerRequest, secureCookies)
  if (!Arr.isReadonlyArrayNonEmpty(cookies)) return undefined
  return yield* verifyFirst(yield* SessionCredentialService, cookies).pipe(
    Effect.catchReason("SessionCredentialError", "SessionRefused", () => Effect.undefined)
  )
})
