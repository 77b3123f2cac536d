/**
 * Stores small secrets (signing keys, credentials, tokens) under validated names.
 *
 * `SecretStore` is the service an application uses. An adapter does not implement it directly: it supplies the few atomic
 * operations of `Primitives`, and `make` derives names, retries and random creation from them, so that these are the same in every adapter.
 */
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

const ErrorTypeId = "~@sallyport/core/SecretStore/SecretStoreError" as const

// -----------------------------------------------------------------------------
// Models
// -----------------------------------------------------------------------------

/** Names a secret: 1 to 128 characters of `a-z 0-9 . _ -`, the first a letter or a digit. Never a path. */
export const SecretName = Schema.String.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,127}$/)).pipe(
  Schema.brand("SecretName")
)

/** Names a secret: 1 to 128 characters of `a-z 0-9 . _ -`, the first a letter or a digit. Never a path. */
export type SecretName = typeof SecretName.Type

/** Holds one stored value and the version it was stored as. A later value of the same secret has a higher version. */
export interface SecretVersion {
  readonly version: number
  readonly value: Redacted.Redacted<Uint8Array>
}

/**
 * Describes the present state of a name: its value, or none when it was never set or was removed.
 *
 * `version` is what `Primitives.compareAndSet` compares: two states of a name with the same version hold the same value (or both none), also when
 * the value was removed and created again in between. 0 means that the name was never set.
 */
export interface SecretState {
  readonly version: number
  readonly value: Option.Option<Redacted.Redacted<Uint8Array>>
}

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/** Reports a name outside the alphabet of `SecretName`. Nothing was read or written. */
export class InvalidName extends Schema.TaggedError<InvalidName>()("InvalidName", { name: Schema.String }) {
  override get message(): string {
    // The name comes from a caller and may be anything, so it is quoted (no line breaks reach a log) and cut.
    const shown = JSON.stringify(this.name.length > 64 ? `${this.name.slice(0, 64)}…` : this.name)
    return `${shown} is not a secret name. Use 1 to 128 characters of a-z, 0-9, ".", "_" and "-", starting with a letter or a digit.`
  }
}

/** Reports a stored value that is torn, truncated, altered or not written by this store. `location` is the file or row, `remedy` what an operator does. */
export class Corrupt extends Schema.TaggedError<Corrupt>()("Corrupt", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `The secret in ${this.location} is corrupt: ${this.problem}. ${this.remedy}`
  }
}

/** Reports a file or directory that somebody else can read, owns or has replaced by a link. `remedy` holds the exact command that mends it. */
export class Insecure extends Schema.TaggedError<Insecure>()("Insecure", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `${this.location} is not private: ${this.problem}. ${this.remedy}`
  }
}

/** Reports a place where no secret can be stored: not a directory, not writable, or on a file system without hard links. */
export class Unusable extends Schema.TaggedError<Unusable>()("Unusable", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message(): string {
    return `Secrets cannot be stored in ${this.location}: ${this.problem}. ${this.remedy}`
  }
}

/**
 * Reports that the storage refused an operation. `method` is the operation of `SecretStore`, `name` the secret where there is one.
 *
 * The value read afterwards is the old one or the new one, never a mixture. `cause` says which system call failed.
 */
export class StorageFailure extends Schema.TaggedError<StorageFailure>()("StorageFailure", {
  method: Schema.String,
  name: Schema.optional(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const subject = this.name === undefined ? "the secret store" : `the secret "${this.name}"`
    const detail = Predicate.hasProperty(this.cause, "message") && Predicate.isString(this.cause.message)
      ? `: ${this.cause.message}`
      : ""
    return `SecretStore.${this.method} failed on ${subject}${detail}`
  }
}

/** Reports a value that is present but that no configured key decrypts. It is never reported as missing. */
export class Undecryptable extends Schema.TaggedError<Undecryptable>()("Undecryptable", {
  name: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `The secret "${this.name}" cannot be decrypted: ${this.problem}. ${this.remedy}`
  }
}

/** Lists why an operation of `SecretStore` can fail. */
export const SecretStoreErrorReason = Schema.Union([
  InvalidName,
  Corrupt,
  Insecure,
  Unusable,
  StorageFailure,
  Undecryptable
])

/** Lists why an operation of `SecretStore` can fail. */
export type SecretStoreErrorReason = typeof SecretStoreErrorReason.Type

/** Wraps every failure of `SecretStore`; branch on `reason` with `Effect.catchReason`. Holds names and paths, never a value. */
export class SecretStoreError extends Schema.TaggedError<SecretStoreError>()("SecretStoreError", {
  reason: SecretStoreErrorReason
}) {
  readonly [ErrorTypeId] = ErrorTypeId

  override get message(): string {
    return this.reason.message
  }
}

/** Checks whether a value is a `SecretStoreError`, also one of another copy of this module. */
export const isSecretStoreError = (u: unknown): u is SecretStoreError => Predicate.hasProperty(u, ErrorTypeId)

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/** Keeps secrets. Every name is checked before any I/O, and a bad one fails with `InvalidName`. */
export class SecretStore extends Context.Service<SecretStore, {
  /** Reads the current value; none when the name was never set or was removed. A value that cannot be read is an error, never none. */
  readonly get: (name: string) => Effect.Effect<Option.Option<Redacted.Redacted<Uint8Array>>, SecretStoreError>
  /**
   * Stores a value whatever was there, and returns when it is durable. A crash leaves the old or the new value.
   * Of concurrent calls each takes effect whole, in some order.
   */
  readonly set: (name: string, value: Redacted.Redacted<Uint8Array>) => Effect.Effect<void, SecretStoreError>
  /** Stores a value if the name has none. Of n concurrent callers exactly one gets `true`; the others get `false` and change nothing. */
  readonly create: (name: string, value: Redacted.Redacted<Uint8Array>) => Effect.Effect<boolean, SecretStoreError>
  /**
   * Reads the value, or creates one of `byteLength` random bytes. All concurrent callers, of this process and others, get the same bytes.
   * An existing value is returned whatever its length. Dies with a `RangeError` unless `byteLength` is a positive safe integer.
   */
  readonly getOrCreateRandom: (
    name: string,
    byteLength: number
  ) => Effect.Effect<Redacted.Redacted<Uint8Array>, SecretStoreError>
  /**
   * Replaces the value by what `f` makes of it, if nothing changed in between; otherwise `f` runs again on the newer value.
   * `f` sees none for a missing name, and leaves the store untouched by returning none. Its own failure changes nothing and is passed on as it is.
   */
  readonly modify: <A, E, R>(
    name: string,
    f: (
      current: Option.Option<Redacted.Redacted<Uint8Array>>
    ) => Effect.Effect<readonly [A, Option.Option<Redacted.Redacted<Uint8Array>>], E, R>
  ) => Effect.Effect<A, E | SecretStoreError, R>
  /** Removes the value and all its kept versions. A missing name is success. */
  readonly remove: (name: string) => Effect.Effect<void, SecretStoreError>
  /** Lists the names that have a value, sorted. */
  readonly list: Effect.Effect<ReadonlyArray<SecretName>, SecretStoreError>
  /** Reads the kept versions of a value, newest (the current one) first; empty when the name has no value. */
  readonly history: (name: string) => Effect.Effect<ReadonlyArray<SecretVersion>, SecretStoreError>
}>()("@sallyport/core/SecretStore") {}

/** Lists what an adapter supplies. Each operation is one atomic step. */
export interface Primitives {
  /** Reads the present state of a name. */
  readonly read: (name: SecretName) => Effect.Effect<SecretState, SecretStoreError>
  /** Stores `next` (none removes, with all kept versions) whatever was there, also over a value that cannot be read. Returns when durable. */
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

// -----------------------------------------------------------------------------
// Constructors
// -----------------------------------------------------------------------------

const isSecretName = Schema.is(SecretName)

const decodeName = (name: string): Effect.Effect<SecretName, SecretStoreError> =>
  isSecretName(name)
    ? Effect.succeed(name)
    : Effect.fail(new SecretStoreError({ reason: new InvalidName({ name: String(name) }) }))

/** Builds a `SecretStore` from an adapter's atomic operations. */
export const make = (
  primitives: Primitives
): Effect.Effect<SecretStore["Service"], never, SecureRandom.SecureRandom> =>
  Effect.map(SecureRandom.SecureRandom, (random) => {
    const modify = Effect.fnUntraced(function*<A, E, R>(
      name: SecretName,
      f: (
        current: Option.Option<Redacted.Redacted<Uint8Array>>
      ) => Effect.Effect<readonly [A, Option.Option<Redacted.Redacted<Uint8Array>>], E, R>
    ) {
      while (true) {
        const state = yield* primitives.read(name)
        const [result, next] = yield* f(state.value)
        if (Option.isNone(next) || (yield* primitives.compareAndSet(name, state.version, next.value))) return result
      }
    })

    return SecretStore.of({
      get: Effect.fn("SecretStore.get")(function*(name: string) {
        return (yield* primitives.read(yield* decodeName(name))).value
      }),
      set: Effect.fn("SecretStore.set")(function*(name: string, value: Redacted.Redacted<Uint8Array>) {
        return yield* primitives.write(yield* decodeName(name), Option.some(value))
      }),
      create: Effect.fn("SecretStore.create")(function*(name: string, value: Redacted.Redacted<Uint8Array>) {
        return yield* modify(
          yield* decodeName(name),
          (current) => Effect.succeed(Option.isSome(current) ? [false, Option.none()] : [true, Option.some(value)])
        )
      }),
      getOrCreateRandom: Effect.fn("SecretStore.getOrCreateRandom")(function*(name: string, byteLength: number) {
        if (!Number.isSafeInteger(byteLength) || byteLength <= 0) {
          return yield* Effect.die(new RangeError("byteLength must be a positive safe integer"))
        }
        return yield* modify(
          yield* decodeName(name),
          Option.match({
            onSome: (current) => Effect.succeed([current, Option.none()] as const),
            onNone: () =>
              Effect.map(random.randomBytes(byteLength), (bytes) => {
                const created = Redacted.make(bytes, { label: name })
                return [created, Option.some(created)] as const
              })
          })
        )
      }),
      modify: Effect.fn("SecretStore.modify")(function*<A, E, R>(
        name: string,
        f: (
          current: Option.Option<Redacted.Redacted<Uint8Array>>
        ) => Effect.Effect<readonly [A, Option.Option<Redacted.Redacted<Uint8Array>>], E, R>
      ) {
        return yield* modify(yield* decodeName(name), f)
      }),
      remove: Effect.fn("SecretStore.remove")(function*(name: string) {
        return yield* primitives.write(yield* decodeName(name), Option.none())
      }),
      list: Effect.map(primitives.list, (names) => names.toSorted()).pipe(Effect.withSpan("SecretStore.list")),
      history: Effect.fn("SecretStore.history")(function*(name: string) {
        return yield* primitives.history(yield* decodeName(name))
      })
    })
  })

/** Configures how many versions of a value an adapter keeps. */
export interface Options {
  /** How many versions of a value are kept, the current one included. A whole number from 1, default 2. */
  readonly keepVersions?: number | undefined
}

const keepVersionsOf = (options: Options | undefined): Effect.Effect<number> => {
  const keep = options?.keepVersions ?? 2
  return Number.isSafeInteger(keep) && keep >= 1
    ? Effect.succeed(keep)
    : Effect.die(new RangeError("keepVersions must be a whole number from 1"))
}

/** Builds a `SecretStore` that lives as long as the process. It copies what it takes and what it gives. */
export const makeMemory = (
  options?: Options
): Effect.Effect<SecretStore["Service"], never, SecureRandom.SecureRandom> =>
  Effect.flatMap(keepVersionsOf(options), (keep) => {
    const secrets = new Map<SecretName, ReadonlyArray<{ readonly version: number; readonly bytes: Uint8Array }>>()
    // One counter for all names: a removed name leaves nothing behind, and yet no version is used twice.
    let lastVersion = 0

    const read = (name: SecretName): SecretState => {
      const current = secrets.get(name)?.[0]
      return current === undefined
        ? { version: 0, value: Option.none() }
        : { version: current.version, value: Option.some(Redacted.make(current.bytes.slice(), { label: name })) }
    }
    const write = (name: SecretName, next: Redacted.Redacted<Uint8Array>): void => {
      const entry = { version: ++lastVersion, bytes: Redacted.value(next).slice() }
      secrets.set(name, [entry, ...(secrets.get(name) ?? [])].slice(0, keep))
    }

    return make({
      read: (name) => Effect.sync(() => read(name)),
      write: (name, next) =>
        Effect.sync(() => {
          if (Option.isSome(next)) write(name, next.value)
          else secrets.delete(name)
        }),
      compareAndSet: (name, expected, next) =>
        Effect.sync(() => {
          if ((secrets.get(name)?.[0]?.version ?? 0) !== expected) return false
          write(name, next)
          return true
        }),
      list: Effect.sync(() => Array.from(secrets.keys())),
      history: (name) =>
        Effect.sync(() =>
          (secrets.get(name) ?? []).map(({ bytes, version }) => ({
            version,
            value: Redacted.make(bytes.slice(), { label: name })
          }))
        )
    })
  })

/** Provides a `SecretStore` that lives as long as the layer. */
export const layerMemory: Layer.Layer<SecretStore, never, SecureRandom.SecureRandom> = Layer.effect(
  SecretStore,
  makeMemory()
)
