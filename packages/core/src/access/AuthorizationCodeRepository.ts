/**
 * Where authorization codes are kept (RFC 6749 section 4.1): a few atomic steps on rows, without policy.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { RepositoryError } from "../RepositoryError.ts"
import type { ChangeContext } from "./AccessEvent.ts"
import { AccessScope } from "./AccessScope.ts"
import { provesKey } from "./BootstrapCredentialRepository.ts"
import { SessionId } from "./Session.ts"
import type { SessionRow } from "./SessionCredentialRepository.ts"

/**
 * Describes a code as it is stored: all that its owner consented to. The code itself is there as a digest only.
 *
 * @category models
 * @since 0.1.0
 */
export const AuthorizationCodeRow = Schema.Struct({
  /** SHA-256 of the code, in lowercase hex. */
  codeDigest: Schema.NonEmptyString,
  clientId: Schema.NonEmptyString,
  /** The one of the request, to the character. */
  redirectUri: Schema.NonEmptyString,
  /** The `S256` challenge (RFC 7636 section 4.2). */
  codeChallenge: Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{43}$/)),
  /** See `SessionClient`. */
  resource: Schema.NullOr(Schema.NonEmptyString),
  subject: Schema.NonEmptyString,
  scopes: Schema.Array(AccessScope),
  /**
   * The key that the session must be bound to (`dpop_jkt`, RFC 9449 section 10), `anyKey` if the client always proves one and
   * has not named it, or null.
   */
  proofKeyThumbprint: Schema.NullOr(Schema.String),
  /** The name that the client gives itself. */
  label: Schema.NullOr(Schema.String),
  /** The session that consented. */
  issuedBy: SessionId,
  createdAtMillis: Schema.Natural,
  expiresAtMillis: Schema.Natural,
  /** The session that the code gave, or null until it is used. */
  sessionId: Schema.NullOr(SessionId)
})
/**
 * @see {@link AuthorizationCodeRow}
 *
 * @category models
 * @since 0.1.0
 */
export type AuthorizationCodeRow = typeof AuthorizationCodeRow.Type

/**
 * Describes the request that presents a code. An absent resource is the one that was granted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Presentation {
  readonly codeDigest: string
  readonly clientId: string
  readonly redirectUri: string
  /** The challenge of the verifier that was presented. */
  readonly codeChallenge: string
  readonly resource: string | null | undefined
}

/**
 * Says why a code was refused. For the log: a caller learns that the grant is not valid, or the target.
 *
 * @category models
 * @since 0.1.0
 */
export const CodeRefusal = Schema.Literals([
  "unknown",
  "client-mismatch",
  "redirect-mismatch",
  "verifier-mismatch",
  "proof-key-mismatch",
  "resource-mismatch",
  "used",
  "expired",
  "issuer-ended",
  "client-not-admitted"
])
/**
 * @see {@link CodeRefusal}
 *
 * @category models
 * @since 0.1.0
 */
export type CodeRefusal = typeof CodeRefusal.Type

/**
 * Returns why a code gives no session to a request, and undefined if it gives one. That it was used before is found only by
 * who presents all that it is bound to: no other caller ends the session that it gave.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const codeRefusal = (
  row: AuthorizationCodeRow | undefined,
  request: Presentation & {
    readonly proofKeyThumbprint: string | null
    readonly nowMillis: number
  }
): CodeRefusal | undefined => {
  if (row === undefined) return "unknown"
  if (row.clientId !== request.clientId) return "client-mismatch"
  if (row.redirectUri !== request.redirectUri) return "redirect-mismatch"
  if (row.codeChallenge !== request.codeChallenge) return "verifier-mismatch"
  if (!provesKey(row.proofKeyThumbprint, request.proofKeyThumbprint)) return "proof-key-mismatch"
  if (row.sessionId !== null) return "used"
  if (row.expiresAtMillis <= request.nowMillis) return "expired"
  return request.resource !== undefined && request.resource !== row.resource ? "resource-mismatch" : undefined
}

/**
 * Describes what came of storing a code.
 *
 * @category models
 * @since 0.1.0
 */
export type CodeInsertOutcome = "inserted" | "issuer-ended" | "too-many-open" | "too-many-let-in"

/**
 * Describes what came of presenting a code. Unless it was redeemed, it is as good as before.
 *
 * @category models
 * @since 0.1.0
 */
export type CodeOutcome =
  | { readonly _tag: "Redeemed" }
  /** The code was used before. The session that it gave has been revoked by this attempt, unless it had ended. */
  | { readonly _tag: "Reused"; readonly sessionId: SessionId }
  | { readonly _tag: "Refused"; readonly reason: CodeRefusal }

/**
 * Bounds the codes of a session that were neither used nor have expired.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxOpenCodes = 32

/**
 * Provides the atomic steps on authorization codes.
 *
 * @category models
 * @since 0.1.0
 */
export interface AuthorizationCodeRepository {
  /**
   * Stores a code if the session that issues it is live and has fewer than {@link maxOpenCodes} open ones, in one step, and
   * unless it has let in `maxLetIn` (`countLetIn` of `Lineage`), its open codes included. That is unbounded if absent. The
   * digest is that of a fresh random value; one that exists already is an error and changes nothing.
   */
  readonly insert: (
    row: AuthorizationCodeRow,
    change: ChangeContext,
    maxLetIn?: number
  ) => Effect.Effect<CodeInsertOutcome, RepositoryError>
  /** Returns the row of a code, used or not. */
  readonly findByDigest: (codeDigest: string) => Effect.Effect<Option.Option<AuthorizationCodeRow>, RepositoryError>
  /**
   * Uses a code for a new session, in one step. {@link codeRefusal} decides, of racers one after the other: exactly one gets
   * `Redeemed`. The session that issued the code must be live until then (`issuer-ended`), and the key of the new session
   * not be one of a blocked client (`client-not-admitted`). The session is stored and `sessionUpserted` appended as by
   * `SessionCredentialRepository.insert`.
   *
   * A caller for whom the code is `used` gets `Reused`. The session that it gave is then revoked as by `revoke`, and
   * `sessionRemoved` is appended with the actor `system`, if it is still live.
   */
  readonly redeem: (
    options: Presentation & { readonly session: SessionRow },
    change: ChangeContext
  ) => Effect.Effect<CodeOutcome, RepositoryError>
  /**
   * Deletes at most `limit` codes that expired at or before `endedBeforeMillis`, those that expired first before others, and
   * returns how many. A code is deleted by exactly one of n racers; one that another caller is writing may be left.
   */
  readonly sweep: (options: {
    readonly endedBeforeMillis: number
    readonly limit: number
  }) => Effect.Effect<number, RepositoryError>
}
