/**
 * The options of a store of secrets, and whether they can work.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Lists the options of a store of secrets.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many versions of a value are kept, the current one included. A whole number from 1, default 2. */
  readonly keepVersions?: number | undefined
}

/**
 * Reports options of a store of secrets that cannot work, while the store is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidSecretStoreOptions extends Schema.TaggedError<InvalidSecretStoreOptions>()(
  "InvalidSecretStoreOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the secret store cannot work: ${this.problem}`
  }
}

const invalid = (problem: string) => new InvalidSecretStoreOptions({ problem })

const prefix = "SALLYPORT_SECRETS"

const decode = <E>(read: ServiceOptions.Reader<Options, E>) => read.count("keepVersions", 2)

/** Decodes the options of a store: how many versions it keeps. */
export const settings = ServiceOptions.make({ prefix, invalid, decode })

/** Decodes those of a store in tables, whose names are other options. */
export const tableSettings = (options: Options | undefined): Effect.Effect<number, InvalidSecretStoreOptions> =>
  ServiceOptions.decodeObject(options, { invalid, decode, others: ["prefix"] })

/** Decodes the options of a store on a directory, which the configuration names. */
export const directorySettings = Effect.suspend(() => {
  const read = ServiceOptions.fromConfig<Options & { readonly directory: string }, InvalidSecretStoreOptions>(
    prefix,
    invalid
  )
  return Effect.all({ directory: read.text("directory"), keepVersions: read.count("keepVersions", 2) })
})
