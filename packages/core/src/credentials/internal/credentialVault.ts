/**
 * How the values of scoped credentials are encrypted: bound to scope, owner, key and revision.
 */
import * as Aead from "effect/crypto/Aead"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { partsOf, type Requirement } from "../CredentialRequirements.ts"
import type { CredentialPlace } from "../../access/ScopedCredential.ts"
import type { ScopedCredentialRow } from "../../access/ScopedCredentialRepository.ts"
import { SecretKeys } from "../../secrets/SecretKeys.ts"
import { type CredentialError, storeFailure } from "./credentialErrors.ts"
import * as Envelope from "../../secrets/internal/secretEnvelope.ts"

const encoder = new TextEncoder()
const decodeText = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Record(Schema.String, Schema.String)))

/** Builds what encrypts and decrypts rows. */
export const make = Effect.fnUntraced(function*(storeId: string) {
  const { active, keys } = yield* SecretKeys
  const sealer = yield* Envelope.makeSealer
  const activeKey = { id: active.id, bytes: Redacted.value(active.bytes) }
  const placeOf = ({ key, owner, revision, scope }: CredentialPlace & { readonly revision: string }) => ({
    storeId,
    name: JSON.stringify([scope, owner, key, revision])
  })

  const sealBytes = (place: CredentialPlace & { readonly revision: string }, bytes: Uint8Array) =>
    sealer.seal(activeKey, Aead.aes256Gcm, placeOf(place), bytes, false).pipe(
      Effect.map((sealed) => ({ sealed: Base64Url.encode(sealed) })),
      Effect.mapError(storeFailure)
    )

  /** Returns the bytes, or why they cannot be had. */
  const openBytes = Effect.fnUntraced(function*(
    row: ScopedCredentialRow
  ): Effect.fn.Return<Result.Result<Uint8Array, string>, CredentialError> {
    const bytes = Base64Url.decode(row.sealed)
    if (Result.isFailure(bytes)) return Result.fail("it is damaged")
    const envelope = Envelope.parse(bytes.success)
    if (envelope._tag === "Plain") return Result.fail("it is not encrypted")
    if (envelope._tag !== "Envelope") return Result.fail(envelope.problem)
    const secretKey = keys.get(envelope.keyId)
    if (secretKey === undefined) {
      return Result.fail(`it is encrypted with the key ${envelope.keyId}, which this process does not have`)
    }
    return yield* sealer.open(Redacted.value(secretKey.bytes), envelope, placeOf(row)).pipe(
      Effect.map(Result.succeed),
      Effect.catch((error) =>
        error.reason._tag === "DecryptionFailed"
          ? Effect.succeed(Result.fail("it was altered, or belongs to another place or another write"))
          : Effect.fail(storeFailure(error))
      )
    )
  })

  const isCurrent = (row: ScopedCredentialRow): boolean => {
    const bytes = Base64Url.decode(row.sealed)
    const envelope = Result.isSuccess(bytes) ? Envelope.parse(bytes.success) : undefined
    return envelope?._tag === "Envelope" && envelope.keyId === active.id
  }

  return { sealBytes, openBytes, isCurrent }
})

/** Encodes the parts as JSON text, in the order of the declaration. */
export const encodeParts = (parts: ReadonlyArray<string>, values: ReadonlyMap<string, Redacted.Redacted>): Uint8Array =>
  encoder.encode(JSON.stringify(Object.fromEntries(
    parts.map((part) => [part, Redacted.value(values.get(part) ?? Redacted.make(""))])
  )))

/** Decodes the parts, or says why they are not those of the declaration. */
export const decodeParts = (
  requirement: Requirement,
  bytes: Uint8Array
): Result.Result<ReadonlyMap<string, Redacted.Redacted>, string> => {
  const parts = partsOf(requirement)
  const found = Option.getOrUndefined(decodeText(new TextDecoder().decode(bytes)))
  if (
    found === undefined || Object.keys(found).length !== parts.length ||
    !parts.every((part) => Object.hasOwn(found, part))
  ) {
    return Result.fail(`its parts are not those that are declared now: ${parts.join(", ")}`)
  }
  return Result.succeed(
    new Map(parts.map((part) => [part, Redacted.make(found[part] ?? "", { label: `${requirement.key} ${part}` })]))
  )
}
