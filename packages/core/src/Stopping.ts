/**
 * Tells what is open on a server that the server begins to stop.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/**
 * Completes when the server begins to stop; never, unless the host says when. `Shutdown.graceful` of `@sallyport/http` does.
 * A stream or a socket that ends by it does not hold the stop up: `Stream.interruptWhen(stream, yield* Stopping)`.
 *
 * @category services
 * @since 0.1.0
 */
export const Stopping: Context.Reference<Effect.Effect<void>> = Context.Reference<Effect.Effect<void>>(
  "@sallyport/core/Stopping",
  { defaultValue: () => Effect.never }
)
