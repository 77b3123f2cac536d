/**
 * The rotation of the key that encrypts scoped credentials.
 */
import { AccessRepository } from "../../access/AccessRepository.ts"
import type * as Aead from "effect/crypto/Aead"
import type * as Kdf from "effect/crypto/Kdf"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { CredentialPlace } from "../../access/ScopedCredential.ts"
import { type ScopedCredentialRow } from "../../access/ScopedCredentialRepository.ts"
import type { SecretKeys } from "../../secrets/SecretKeys.ts"
import { type CredentialError, stored } from "./credentialErrors.ts"
import { defaultStoreId } from "./credentialOptions.ts"
import * as Vault from "./credentialVault.ts"

/**
 * Says what a rotation did.
 *
 * @category models
 * @since 0.1.0
 */
export interface RotationReport {
  /** How many values were encrypted again. */
  readonly rewritten: number
  /** How many needed nothing. */
  readonly unchanged: number
  /** The places of values that cannot be decrypted; they stay as they are. */
  readonly undecryptable: ReadonlyArray<CredentialPlace>
}

const rotationPage = 64

/**
 * Encrypts every value with the active key that is not. Each is one compare-and-set: a concurrent write is never undone. It
 * may be interrupted, killed and run again at any point. A process that still writes with an older key leaves values for the
 * next run, so the keys come first: give the new one to every process, then rotate.
 *
 * @category operations
 * @since 0.1.0
 */
export const rotate = Effect.fn("CredentialScopeResolver.rotate")(function*(
  options?: { readonly storeId?: string | undefined }
): Effect.fn.Return<
  RotationReport,
  CredentialError,
  AccessRepository | SecretKeys | Aead.Aead | Kdf.Kdf | SecureRandom.SecureRandom
> {
  const repository = (yield* AccessRepository).credentials
  const vault = yield* Vault.make(options?.storeId ?? defaultStoreId)
  const undecryptable: Array<CredentialPlace> = []
  let rewritten = 0
  let unchanged = 0
  let after: CredentialPlace | undefined
  while (true) {
    const rows: ReadonlyArray<ScopedCredentialRow> = yield* stored(
      repository.page({ after, limit: rotationPage })
    )
    for (const row of rows) {
      const place = { scope: row.scope, owner: row.owner, key: row.key }
      after = place
      const bytes = yield* vault.openBytes(row)
      if (Result.isFailure(bytes)) undecryptable.push(place)
      else if (vault.isCurrent(row)) unchanged++
      else {
        const sealed = yield* vault.sealBytes({ ...place, revision: row.revision }, bytes.success)
        const replaced = yield* stored(
          repository.reseal({ place, revision: row.revision, fromSealed: row.sealed, ...sealed })
        )
        // A caller that has written meanwhile has written with a key of today's.
        if (replaced) rewritten++
        else unchanged++
      }
    }
    if (rows.length < rotationPage) return { rewritten, unchanged, undecryptable }
  }
})
