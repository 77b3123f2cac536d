/**
 * The options of scoped credentials, and whether they can work.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { CredentialScope } from "../../access/ScopedCredential.ts"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Reports options of scoped credentials that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidCredentialScopeResolverOptions extends Schema.TaggedError<InvalidCredentialScopeResolverOptions>()(
  "InvalidCredentialScopeResolverOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of scoped credentials cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of scoped credentials; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Whose credential comes first. A scope that is left out is not read. Default user, org, workspace. */
  readonly readOrder?: ReadonlyArray<CredentialScope> | undefined
  /**
   * Tells this store from others under the same keys. It must stay the same for the life of the store. Default
   * `credentials`.
   */
  readonly storeId?: string | undefined
  /** The largest value of a credential, in bytes of its JSON text. Default 65,536. */
  readonly maxValueBytes?: number | undefined
  /** How long a rejected credential counts as rejected. Default 15 minutes. */
  readonly rejectedFor?: Duration.Input | undefined
  /** How long a validator may take before its provider counts as down. Default 10 seconds. */
  readonly testTimeout?: Duration.Input | undefined
  /** How many resolved credentials a process keeps. Default 10,000. */
  readonly cacheCapacity?: number | undefined
  /** How long a resolved credential is trusted since the feed was last read to its end. Default 5 seconds. */
  readonly trustedFor?: Duration.Input | undefined
  /**
   * How often repeated reads are counted into the feed. The first read by a caller is there before the value is given out;
   * a process that is killed loses the count of repeated ones since. Default 10 seconds.
   */
  readonly auditInterval?: Duration.Input | undefined
}

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly readOrder: ReadonlyArray<CredentialScope>
  readonly storeId: string
  readonly maxValueBytes: number
  readonly rejectedMillis: number
  readonly testMillis: number
  readonly cacheCapacity: number
  readonly trustMillis: number
  readonly auditMillis: number
}

/** The store id of a host that chose none. */
export const defaultStoreId = "credentials"

/** Decodes the options of scoped credentials. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_CREDENTIALS",
  invalid: (problem) => new InvalidCredentialScopeResolverOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      readOrder: yield* read.literals("readOrder", CredentialScope.literals, CredentialScope.literals),
      storeId: yield* read.text("storeId", defaultStoreId),
      maxValueBytes: yield* read.count("maxValueBytes", 65_536),
      rejectedMillis: yield* read.millis("rejectedFor", "15 minutes"),
      testMillis: yield* read.millis("testTimeout", "10 seconds"),
      cacheCapacity: yield* read.count("cacheCapacity", 10_000),
      trustMillis: yield* read.millis("trustedFor", "5 seconds"),
      auditMillis: yield* read.millis("auditInterval", "10 seconds")
    }
  })
})
