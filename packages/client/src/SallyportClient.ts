/**
 * Provides the whole client as one layer.
 */
import type { InvalidBaseUrl } from "@sallyport/core/access/PairingUrl"
import * as Input from "@sallyport/core/Input"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import type { HttpClient } from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Access from "./Access.ts"
import * as AccessFeed from "./AccessFeed.ts"
import * as Approval from "./Approval.ts"
import * as Connection from "./Connection.ts"
import type { Credentials } from "./Credentials.ts"
import * as Runs from "./Runs.ts"

/**
 * Configures {@link layer}.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<E, R> {
  /** The server's address, as a person enters it: see `Connection.layer`. */
  readonly baseUrl: string
  /** How requests carry the session's credential: one of the layers of `Credentials`. */
  readonly credentials: Layer.Layer<Credentials, E, R>
  readonly runs?: Runs.Options | undefined
}

const optionRules: Record<keyof Options<never, never>, Input.Rule> = {
  baseUrl: Input.any, // the connection looks at it
  credentials: Input.required({ is: Layer.isLayer, expected: "one of the layers of Credentials" }),
  runs: Input.any
}

/**
 * Provides the connection to a server, the access to it with its feed and approval, and its runs.
 *
 * **Example** (Making the client of a page)
 *
 * ```ts
 * import { Access, Credentials, SallyportClient } from "@sallyport/client"
 * import { Console, Effect, Layer } from "effect"
 * import { SecureRandom } from "effect/crypto"
 * import { FetchHttpClient } from "effect/http"
 *
 * // In a page the address is `location.origin`.
 * const Client = SallyportClient.layer({ baseUrl: "http://127.0.0.1:1", credentials: Credentials.layerCookie }).pipe(
 *   Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
 * )
 *
 * const program = Effect.gen(function*() {
 *   const access = yield* Access.Access
 *   const { reason } = yield* Effect.flip(access.state)
 *   yield* Console.log(reason._tag)
 *   // => Unreachable
 * })
 *
 * Effect.runPromise(Effect.provide(program, Client))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, R>(options: Options<E, R>): Layer.Layer<
  Connection.Connection | Access.Access | AccessFeed.AccessFeed | Approval.Approval | Runs.Runs,
  InvalidBaseUrl | Runs.InvalidRunsOptions | E,
  R | HttpClient | SecureRandom
> => {
  Input.demand("SallyportClient.layer", optionRules, options)
  return Layer.mergeAll(Access.layer, AccessFeed.layer, Approval.layer, Runs.layerWith(options.runs ?? {})).pipe(
    Layer.provideMerge(Connection.layer({ baseUrl: options.baseUrl })),
    Layer.provide(options.credentials)
  )
}
