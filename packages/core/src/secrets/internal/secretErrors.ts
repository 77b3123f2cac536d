/**
 * Why a `SecretStore` can fail.
 */
import type { PlatformError } from "effect/PlatformError"
import * as Schema from "effect/Schema"
import type { SecretName } from "./secretName.ts"

// The platform's error says which operation failed, and the system's error below it says why ("ENOSPC: no space left on
// device").
const describeCause = (cause: unknown): string => {
  if (!(cause instanceof Error)) return "the cause is unknown"
  return cause.cause instanceof Error ? `${cause.message} (${cause.cause.message})` : cause.message
}

/**
 * Reports a name outside the alphabet of `SecretName`, or one that the store keeps for itself (`reservedFor`). Nothing was
 * read or written.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidName extends Schema.TaggedError<InvalidName>()("InvalidName", {
  secretName: Schema.String,
  reservedFor: Schema.optional(Schema.String)
}) {
  override get message(): string {
    // The name comes from a caller and may be anything, so it is quoted (no line breaks reach a log) and cut.
    const shown = JSON.stringify(this.secretName.length > 64 ? `${this.secretName.slice(0, 64)}…` : this.secretName)
    if (this.reservedFor !== undefined) return `${shown} is reserved for ${this.reservedFor}. Choose another name.`
    return `${shown} is not a secret name. Use 1 to 128 characters of a-z, 0-9, ".", "_" and "-", starting with a letter or a digit.`
  }
}

/**
 * Reports a stored value that is torn, truncated, altered or not written by this store. `location` is the file or row,
 * `remedy` what an operator does.
 *
 * @category errors
 * @since 0.1.0
 */
export class Corrupt extends Schema.TaggedError<Corrupt>()("Corrupt", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `The secret in ${this.location} is corrupt: ${this.problem}. ${this.remedy}`
  }
}

/**
 * Reports a file or directory that another caller can read, owns or has replaced by a link. `remedy` holds the exact
 * command that mends it.
 *
 * @category errors
 * @since 0.1.0
 */
export class Insecure extends Schema.TaggedError<Insecure>()("Insecure", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `${this.location} is not private: ${this.problem}. ${this.remedy}`
  }
}

/**
 * Reports a place where no secret can be stored: not a directory, not writable, or on a file system without hard links.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unusable extends Schema.TaggedError<Unusable>()("Unusable", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message(): string {
    const detail = this.cause === undefined ? "" : `: ${describeCause(this.cause)}`
    return `Secrets cannot be stored in ${this.location}: ${this.problem}${detail}. ${this.remedy}`
  }
}

/**
 * Reports that the storage refused an operation. `operation` is one of `SecretStore`'s, `secretName` the secret's name if
 * there is one.
 *
 * The value read afterwards is the old one or the new one, never a mixture. `cause` says which system call failed.
 *
 * @category errors
 * @since 0.1.0
 */
export class StorageFailure extends Schema.TaggedError<StorageFailure>()("StorageFailure", {
  operation: Schema.String,
  secretName: Schema.optional(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const subject = this.secretName === undefined ? "the secret store" : `the secret "${this.secretName}"`
    return `SecretStore.${this.operation} failed on ${subject}: ${describeCause(this.cause)}`
  }
}

/**
 * Reports a value that is present but that no configured key decrypts. It is never reported as missing.
 *
 * @category errors
 * @since 0.1.0
 */
export class Undecryptable extends Schema.TaggedError<Undecryptable>()("Undecryptable", {
  secretName: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `The secret "${this.secretName}" cannot be decrypted: ${this.problem}. ${this.remedy}`
  }
}

/**
 * Lists why an operation of `SecretStore` can fail.
 *
 * @category errors
 * @since 0.1.0
 */
export const SecretStoreErrorReason = Schema.Union([
  InvalidName,
  Corrupt,
  Insecure,
  Unusable,
  StorageFailure,
  Undecryptable
])

/**
 * Lists why an operation of `SecretStore` can fail.
 *
 * @category errors
 * @since 0.1.0
 */
export type SecretStoreErrorReason = typeof SecretStoreErrorReason.Type

/**
 * Wraps every failure of `SecretStore`; branch on `reason` with `Effect.catchReason`. Holds names and paths, never a value.
 *
 * @category errors
 * @since 0.1.0
 */
export class SecretStoreError extends Schema.TaggedError<SecretStoreError>()("SecretStoreError", {
  reason: SecretStoreErrorReason
}) {
  override get message(): string {
    return this.reason.message
  }
}

/** Says that something can be reached by others. */
export const insecure = (location: string, problem: string, remedy: string): SecretStoreError =>
  new SecretStoreError({ reason: new Insecure({ location, problem, remedy }) })

/** Says that secrets cannot be kept in a place. */
export const unusable = (location: string, problem: string, remedy: string, cause?: unknown): SecretStoreError =>
  new SecretStoreError({
    reason: new Unusable({ location, problem, remedy, ...(cause === undefined ? {} : { cause }) })
  })

/** Says that the platform refused an operation. */
export const storageFailure =
  (operation: string, secretName?: SecretName) => (cause: PlatformError): SecretStoreError =>
    new SecretStoreError({
      reason: new StorageFailure({ operation, cause, ...(secretName === undefined ? {} : { secretName }) })
    })
