/**
 * The options of an encrypted store, and whether they can work.
 */
import * as Aead from "effect/crypto/Aead"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Lists the options of an encrypted store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Tells this store from others under the same keys: a value moved from one to the other does not decrypt. It is not
   * stored, so it must stay the same for the life of the store. 1 to 255 characters.
   */
  readonly storeId: string
  /**
   * What new values are encrypted with: AES-256-GCM (default) runs on the platform's code, XChaCha20-Poly1305 anywhere.
   * Values of either are read.
   */
  readonly algorithm?: "aes256Gcm" | "xchacha20Poly1305" | undefined
}

/**
 * Reports options of an encrypted store that cannot work, while the store is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidEncryptedSecretStoreOptions extends Schema.TaggedError<InvalidEncryptedSecretStoreOptions>()(
  "InvalidEncryptedSecretStoreOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the encrypted secret store cannot work: ${this.problem}`
  }
}

/** Holds the settings. */
export interface Settings {
  readonly storeId: string
  readonly algorithm: Aead.Algorithm
}

/** Decodes the options of an encrypted store. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_SECRETS",
  invalid: (problem) => new InvalidEncryptedSecretStoreOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    const algorithm = yield* read.literal("algorithm", ["aes256Gcm", "xchacha20Poly1305"], "aes256Gcm")
    return { storeId: yield* read.text("storeId"), algorithm: Aead[algorithm] }
  })
})
