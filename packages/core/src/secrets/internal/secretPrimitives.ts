/**
 * The atomic operations from which a `SecretStore` is made.
 */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type { SecretStoreError } from "./secretErrors.ts"
import type { SecretName } from "./secretName.ts"

/**
 * Holds one stored value and the version it was stored as. A later value of the same secret has a higher version.
 *
 * @category models
 * @since 0.1.0
 */
export interface SecretVersion {
  readonly version: number
  readonly value: Redacted.Redacted<Uint8Array>
}

/**
 * Describes the present state of a name: its value, or none when it was never set or was removed.
 *
 * `version` is what `Primitives.compareAndSet` compares: two states of a name with the same version hold the same value (or
 * both none), also when the value was removed and created again in between. 0 means that the name was never set.
 *
 * @category models
 * @since 0.1.0
 */
export interface SecretState {
  readonly version: number
  readonly value: Option.Option<Redacted.Redacted<Uint8Array>>
}

/**
 * Lists what an adapter supplies. Each operation is one atomic step.
 *
 * @category models
 * @since 0.1.0
 */
export interface Primitives {
  /** Reads the present state of a name. */
  readonly read: (name: SecretName) => Effect.Effect<SecretState, SecretStoreError>
  /**
   * Stores `next` (none removes, with all kept versions) whatever was there, also over a value that cannot be read. Returns
   * when durable.
   */
  readonly write: (
    name: SecretName,
    next: Option.Option<Redacted.Redacted<Uint8Array>>
  ) => Effect.Effect<void, SecretStoreError>
  /**
   * Stores `next` if the state is still the one with the version `expected`, and returns when it is durable.
   * Of n concurrent callers with the same `expected` exactly one gets `true`; the others get `false` and change nothing.
   */
  readonly compareAndSet: (
    name: SecretName,
    expected: number,
    next: Redacted.Redacted<Uint8Array>
  ) => Effect.Effect<boolean, SecretStoreError>
  /** Lists the names that have a value, in any order. */
  readonly list: Effect.Effect<ReadonlyArray<SecretName>, SecretStoreError>
  /** Reads the kept versions of a value, newest first; empty when the name has no value. */
  readonly history: (name: SecretName) => Effect.Effect<ReadonlyArray<SecretVersion>, SecretStoreError>
}
