/**
 * SHA-256 at once: for the paths where even an effect costs more than the digest.
 */
import * as Context from "effect/Context"

/**
 * Provides the SHA-256 of a text in UTF-8 as lowercase hex, if the runtime can compute it without waiting; undefined
 * otherwise, and `Digest` is used instead. `NodeDigest.layer` of `@sallyport/node` sets it.
 *
 * @category services
 * @since 0.1.0
 */
export const Sha256Hex: Context.Reference<((text: string) => string) | undefined> = Context.Reference<
  ((text: string) => string) | undefined
>("@sallyport/core/access/Sha256/Sha256Hex", { defaultValue: () => undefined })
