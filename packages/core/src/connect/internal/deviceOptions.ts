/**
 * The settings of the device authorization grant, and whether they can work.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as AccessScope from "../../access/AccessScope.ts"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Reports options of the device authorization grant that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidDeviceAuthorizationOptions extends Schema.TaggedError<InvalidDeviceAuthorizationOptions>()(
  "InvalidDeviceAuthorizationOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of device authorization cannot work: ${this.problem}`
  }
}

/**
 * Lists what a device may ask for; each option has a default.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /**
   * The scopes that a device may ask for, and asks for if it names none. By default all that there are but
   * `AccessScope.widening`: a device neither lets others in nor decides about clients unless these are named here.
   */
  readonly scopes?: ReadonlyArray<AccessScope.AccessScope> | undefined
  /**
   * How many requests one source may make within 10 minutes, by default 8. Less than half of `maxPendingPerAccount`, or a
   * stranger can fill the list of those that wait. All of an IPv6 network of 48 bits, which one stranger can have, is one
   * source, as an IPv4 address is. All sources together may make 1,000 within a minute.
   */
  readonly requestsPerSource?: number | undefined
}

/** Holds the settings. */
export interface Settings {
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
  readonly requestsPerSource: number
}

/** Decodes the options of the grant, under the scopes that there are. */
export const settings = (vocabulary: ReadonlyArray<AccessScope.AccessScope>) =>
  ServiceOptions.make({
    prefix: "SALLYPORT_DEVICE",
    invalid: (problem) => new InvalidDeviceAuthorizationOptions({ problem }),
    decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
      return {
        scopes: yield* read.literals("scopes", vocabulary, AccessScope.missing(AccessScope.widening, vocabulary)),
        requestsPerSource: yield* read.count("requestsPerSource", 8)
      }
    })
  })
