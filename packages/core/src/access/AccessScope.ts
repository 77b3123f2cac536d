/**
 * The vocabulary of access scopes: Sallyport's own and the host's.
 *
 * A scope is a permission that a session or pairing link carries and a route asks for, written `resource:action`. A host
 * adds its own by extending {@link Registry}, so that a misspelt scope does not compile, and lists them at run time
 * through {@link Vocabulary}, so that no caller is granted a scope that does not exist.
 */
import * as Context from "effect/Context"
import * as Schema from "effect/Schema"

/**
 * Lists the names that {@link AccessScope} admits; extend it to add a host's scopes.
 *
 * **Example** (Adding a scope)
 *
 * ```ts
 * import { AccessScope } from "@sallyport/core"
 * import { Console, Effect, Layer } from "effect"
 *
 * declare module "@sallyport/core/access/AccessScope" {
 *   interface Registry {
 *     readonly "notes:write": true
 *   }
 * }
 *
 * const Scopes = Layer.succeed(AccessScope.Vocabulary, [...AccessScope.builtin, "notes:write"])
 *
 * const program = Effect.gen(function*() {
 *   const vocabulary = yield* AccessScope.Vocabulary
 *   yield* Console.log(AccessScope.missing(vocabulary, ["notes:write"]))
 *   // => []
 * })
 *
 * Effect.runPromise(Effect.provide(program, Scopes))
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Registry {
  readonly "access:read": true
  readonly "access:write": true
  readonly "access:manage": true
  readonly "connect:manage": true
  readonly "credentials:read": true
  readonly "credentials:write": true
  readonly "runs:read": true
  readonly "runs:operate": true
}

/**
 * Names one permission, such as `runs:read`.
 *
 * @category models
 * @since 0.1.0
 */
export type AccessScope = keyof Registry & string

const pattern = /^[a-z][a-z0-9-]{0,31}:[a-z][a-z0-9-]{0,31}$/

/**
 * Decodes a scope from text of the form `resource:action`, at most 65 characters.
 *
 * A well-formed scope outside the host's vocabulary decodes: it was granted by a newer or an older version, and no route
 * of this one asks for it.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessScope = Schema.String.pipe(
  Schema.refine((text): text is AccessScope => pattern.test(text), {
    expected: "a scope of the form resource:action, such as runs:read"
  })
)

/**
 * Lists the scopes that Sallyport's own routes ask for.
 *
 * @category constants
 * @since 0.1.0
 */
export const builtin: ReadonlyArray<AccessScope> = [
  "access:read",
  "access:write",
  "access:manage",
  "connect:manage",
  "credentials:read",
  "credentials:write",
  "runs:read",
  "runs:operate"
]

/**
 * Lists the scopes with which a session could let others in, reach what is not its own, or decide who may connect. A
 * client that connects through a relay gets none of them unless the host names it.
 *
 * @category constants
 * @since 0.1.0
 */
export const widening: ReadonlyArray<AccessScope> = ["access:write", "access:manage", "connect:manage"]

/**
 * Provides every scope that this host knows, which is what its operator holds; {@link builtin} unless the host says
 * otherwise.
 *
 * @category services
 * @since 0.1.0
 */
export const Vocabulary: Context.Reference<ReadonlyArray<AccessScope>> = Context.Reference(
  "@sallyport/core/access/AccessScope/Vocabulary",
  { defaultValue: () => builtin }
)

/**
 * Says what the scopes of {@link builtin} allow, each in a few words for a person who grants it.
 *
 * @category constants
 * @since 0.1.0
 */
export const titles: Readonly<Record<string, string>> = {
  "access:read": "See who has access",
  "access:write": "Let devices in and revoke them",
  "access:manage": "Manage everyone’s access",
  "connect:manage": "Approve devices that ask",
  "credentials:read": "See which credentials are set",
  "credentials:write": "Set and remove credentials",
  "runs:read": "Watch runs",
  "runs:operate": "Start and stop runs"
}

/**
 * Provides what the host's scopes allow, in words for every page and for the terminal; {@link titles} unless the host adds its
 * own. A scope without a title is told by its name.
 *
 * @category services
 * @since 0.1.0
 */
export const Titles: Context.Reference<Readonly<Record<string, string>>> = Context.Reference(
  "@sallyport/core/access/AccessScope/Titles",
  { defaultValue: () => titles }
)

/**
 * Returns the members of `asked` that `held` lacks, in the order asked.
 *
 * @category combinators
 * @since 0.1.0
 */
export const missing = (
  held: ReadonlyArray<AccessScope>,
  asked: ReadonlyArray<AccessScope>
): ReadonlyArray<AccessScope> => asked.filter((scope) => !held.includes(scope))
