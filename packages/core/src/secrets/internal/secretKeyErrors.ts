/**
 * Why encryption keys can be unavailable.
 */
import * as Schema from "effect/Schema"

const withRemedy = {
  /** Where the key was looked for: a variable, a file, a keyring. */
  source: Schema.String,
  remedy: Schema.String
}

/**
 * Reports that a source holds no key.
 *
 * @category errors
 * @since 0.1.0
 */
export class KeyMissing extends Schema.TaggedError<KeyMissing>()("KeyMissing", withRemedy) {
  override get message(): string {
    return `There is no encryption key in ${this.source}. ${this.remedy}`
  }
}

/**
 * Reports that what a source holds is not a key.
 *
 * @category errors
 * @since 0.1.0
 */
export class KeyMalformed extends Schema.TaggedError<KeyMalformed>()("KeyMalformed", {
  ...withRemedy,
  problem: Schema.String
}) {
  override get message(): string {
    return `The encryption key in ${this.source} cannot be used: ${this.problem}. ${this.remedy}`
  }
}

/**
 * Reports a key file that other users can read.
 *
 * @category errors
 * @since 0.1.0
 */
export class KeyInsecure extends Schema.TaggedError<KeyInsecure>()("KeyInsecure", {
  ...withRemedy,
  problem: Schema.String
}) {
  override get message(): string {
    return `The encryption key in ${this.source} is not private: ${this.problem}. ${this.remedy}`
  }
}

/**
 * Reports a passphrase that is none of those that the store's keys were made with.
 *
 * @category errors
 * @since 0.1.0
 */
export class WrongPassphrase
  extends Schema.TaggedError<WrongPassphrase>()("WrongPassphrase", { remedy: Schema.String })
{
  override get message(): string {
    return `The passphrase is not the one that the secrets are encrypted with. ${this.remedy}`
  }
}

/**
 * Reports a source that this machine does not have: no keyring, no Argon2id.
 *
 * @category errors
 * @since 0.1.0
 */
export class SourceUnavailable extends Schema.TaggedError<SourceUnavailable>()("SourceUnavailable", {
  ...withRemedy,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message(): string {
    const detail = this.cause instanceof Error ? ` (${this.cause.message})` : ""
    return `Encryption keys cannot be kept in ${this.source}${detail}. ${this.remedy}`
  }
}

/**
 * Reports a source that failed to answer. Trying again may succeed.
 *
 * @category errors
 * @since 0.1.0
 */
export class SourceFailure extends Schema.TaggedError<SourceFailure>()("SourceFailure", {
  source: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    const detail = this.cause instanceof Error ? this.cause.message : "the cause is unknown"
    return `The encryption key in ${this.source} could not be read: ${detail}`
  }
}

/**
 * Lists why keys can be unavailable.
 *
 * @category errors
 * @since 0.1.0
 */
export const SecretKeysErrorReason = Schema.Union([
  KeyMissing,
  KeyMalformed,
  KeyInsecure,
  WrongPassphrase,
  SourceUnavailable,
  SourceFailure
])

/**
 * Lists why keys can be unavailable.
 *
 * @category errors
 * @since 0.1.0
 */
export type SecretKeysErrorReason = typeof SecretKeysErrorReason.Type

/**
 * Wraps every failure to get at a key; branch on `reason` with `Effect.catchReason`. Holds names of sources and ids of
 * keys, never a key.
 *
 * @category errors
 * @since 0.1.0
 */
export class SecretKeysError extends Schema.TaggedError<SecretKeysError>()("SecretKeysError", {
  reason: SecretKeysErrorReason
}) {
  override get message(): string {
    return this.reason.message
  }
}

/** Says that what a source holds is not a key. */
export const malformed = (source: string, problem: string, remedy: string): SecretKeysError =>
  new SecretKeysError({ reason: new KeyMalformed({ source, problem, remedy }) })

/** Says that a source failed to answer. */
export const sourceFailure = (source: string) => (cause: Error): SecretKeysError =>
  new SecretKeysError({ reason: new SourceFailure({ source, cause }) })
