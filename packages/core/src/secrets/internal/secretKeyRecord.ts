/**
 * The secret of an underlying store that says which key-encryption keys exist: salts, costs and ids, newest first. It holds
 * no key.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Corrupt, SecretStoreError } from "../SecretStore.ts"

/** The name of the record in the underlying store. */
export const recordName = "sallyport.secret-keys"

const KeyId = Schema.String.check(Schema.isPattern(/^[0-9a-f]{32}$/))

const naturalUpTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 1, maximum }))

/** The cost of Argon2id. The bounds keep a user who can write to the store from asking for terabytes at the next start. */
export const Argon2idCost = Schema.Struct({
  memory: naturalUpTo(4 * 1024 * 1024),
  passes: naturalUpTo(64),
  parallelism: naturalUpTo(64)
})

/** A key derived from a passphrase. */
export const Argon2idEntry = Schema.TaggedStruct("argon2id", {
  id: KeyId,
  salt: Schema.Uint8ArrayFromBase64Url.check(Schema.isBetweenLength(8, 64)),
  ...Argon2idCost.fields
})

/** A key that a vault keeps under its id. */
export const VaultEntry = Schema.TaggedStruct("vault", { id: KeyId })

/** A key that exists. */
export type Entry = typeof Argon2idEntry.Type | typeof VaultEntry.Type

const Record = Schema.fromJsonString(Schema.Struct({
  format: Schema.Literal(1),
  keys: Schema.Array(Schema.Union([Argon2idEntry, VaultEntry]))
}))

const decodeRecord = Schema.decodeUnknownEffect(Record)
const encodeRecord = Schema.encodeSync(Record)

/** Decodes the record; no entries if there is none. */
export const decode = (
  record: Option.Option<Redacted.Redacted<Uint8Array>>
): Effect.Effect<ReadonlyArray<Entry>, SecretStoreError> =>
  Option.match(record, {
    onNone: () => Effect.succeed([]),
    onSome: (bytes) =>
      decodeRecord(new TextDecoder().decode(Redacted.value(bytes))).pipe(
        Effect.map(({ keys }) => keys),
        Effect.mapError(() =>
          new SecretStoreError({
            reason: new Corrupt({
              location: `the underlying store's "${recordName}"`,
              problem: "it is not a list of encryption keys that this program knows",
              remedy: "Restore it from a backup: without it no passphrase or keyring decrypts the other secrets"
            })
          })
        )
      )
  })

/** Encodes the record. */
export const encode = (entries: ReadonlyArray<Entry>): Redacted.Redacted<Uint8Array> =>
  Redacted.make(new TextEncoder().encode(encodeRecord({ format: 1, keys: entries })), { label: recordName })
