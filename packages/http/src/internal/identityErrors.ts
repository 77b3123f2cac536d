/**
 * What can be wrong with an identity from elsewhere.
 */
import * as Schema from "effect/Schema"

/** Names what is wrong with a subject token. */
const Problem = Schema.Literals([
  "malformed",
  "unknown-issuer",
  "unsupported-alg",
  "wrong-type",
  "unknown-key",
  "bad-signature",
  "expired",
  "from-the-future",
  "wrong-audience",
  "wrong-party",
  "missing-claim",
  "invalid-claim",
  "replayed",
  "unknown-header",
  "missing-header",
  "untrusted-peer",
  "unfit"
])
/** @see {@link Problem} */
export type Problem = typeof Problem.Type

/** Says of each problem what the caller is told: no more than the holder of the token can read in it. */
const sentences: Readonly<Record<Problem, string>> = {
  "malformed": "it is no signed JWT",
  "unknown-issuer": "no such issuer is named here",
  "unsupported-alg": "its algorithm is not taken",
  "wrong-type": "its typ says that it is no ID token",
  "unknown-key": "its issuer has no such key",
  "bad-signature": "its signature is wrong",
  "expired": "it has expired, or is too old",
  "from-the-future": "it is not valid yet",
  "wrong-audience": "it is not for this server alone",
  "wrong-party": "it was issued to a program that is not named here",
  "missing-claim": "it lacks iss, sub, aud, exp or iat",
  "invalid-claim": "one of its claims does not have the form that it must have",
  "replayed": "it was used before; get a new one",
  "unknown-header": "no such header is named here",
  "missing-header": "the header did not come, or came twice",
  "untrusted-peer": "the header did not come from its proxy",
  "unfit": "the name in it cannot be a subject here"
}

/**
 * Reports a subject token that is not taken.
 *
 * @category errors
 * @since 0.1.0
 */
export class IdentityRefused extends Schema.TaggedError<IdentityRefused>()("IdentityRefused", {
  problem: Problem
}) {
  override get message() {
    return `The subject token is refused: ${sentences[this.problem]}`
  }
}

/**
 * Reports an identity that is good and may not come in. The host's function fails with it; `problem` is for the log.
 *
 * @category errors
 * @since 0.1.0
 */
export class IdentityNotAdmitted extends Schema.TaggedError<IdentityNotAdmitted>()("IdentityNotAdmitted", {
  problem: Schema.String
}) {
  override get message() {
    return "This identity may not come in here"
  }
}

/**
 * Reports an identity that cannot be checked now: its issuer does not answer, or the store does not, or what the host asks.
 *
 * @category errors
 * @since 0.1.0
 */
export class IdentityUnavailable extends Schema.TaggedError<IdentityUnavailable>()("IdentityUnavailable", {
  cause: Schema.Defect()
}) {
  override get message() {
    return "The identity cannot be checked at the moment; try again later"
  }
}
