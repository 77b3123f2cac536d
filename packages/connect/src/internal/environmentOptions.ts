/**
 * The settings of an environment, and whether they can work.
 */
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { defaultSubject } from "@sallyport/core/access/BootstrapCredentialService"
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * Reports options of an environment that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidEnvironmentOptions
  extends Schema.TaggedError<InvalidEnvironmentOptions>()("InvalidEnvironmentOptions", { problem: Schema.String })
{
  override get message() {
    return `The options of an environment cannot work: ${this.problem}`
  }
}

/**
 * Lists the settings of an environment; each has a default.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /**
   * What the session of a client that connects may do. By default all that there is but `AccessScope.widening`: a client
   * neither lets others in nor decides about clients unless these scopes are named here.
   */
  readonly scopes?: ReadonlyArray<AccessScope.AccessScope> | undefined
  /** Whom the sessions of clients belong to. By default `owner`. */
  readonly subject?: string | undefined
}

const isScopes = Schema.is(Schema.NonEmptyArray(AccessScope.AccessScope))

/** Holds the settings. */
export interface Settings {
  readonly scopes: ReadonlyArray<AccessScope.AccessScope> | undefined
  readonly subject: string
}

/** Decodes the options of an environment. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_ENVIRONMENT",
  invalid: (problem) => new InvalidEnvironmentOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      scopes: yield* read.optional(
        "scopes",
        "scopes separated by commas, such as runs:read,runs:operate",
        (written) => {
          const scopes = typeof written === "string" ? written.split(",").map((scope) => scope.trim()) : written
          return isScopes(scopes) ? scopes : undefined
        }
      ),
      subject: yield* read.text("subject", defaultSubject)
    }
  })
})
