/**
 * Ends what is open when the server stops, so that a stop doesn't wait for it.
 *
 * A server that stops waits for the responses that it is sending, up to its `gracefulShutdownTimeout`, and only then closes
 * the layers that it was made from. A stream that follows a run can't learn of it from its own layer, then: that closes
 * last. {@link graceful} stands outside of the server and says so first.
 */
import { Stopping } from "@sallyport/core/Stopping"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

class Trigger extends Context.Service<Trigger, Deferred.Deferred<void>>()("@sallyport/http/Shutdown/Trigger") {}

/**
 * Makes a server that ends its streams before it waits for them. Put it around the layer that serves, whatever that is:
 *
 * ```ts
 * const Server = HttpRouter.serve(Routes).pipe(
 *   Shutdown.graceful,
 *   Layer.provide(NodeHttpServer.layer(createServer, { port: 4590 }))
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const graceful = <A, E, R>(server: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> => {
  const pull = Layer.effectDiscard(
    Effect.flatMap(Trigger, (trigger) => Effect.addFinalizer(() => Deferred.succeed(trigger, undefined)))
  )
  const stopping = Layer.effectContext(
    Effect.map(
      Deferred.make<void>(),
      (trigger) => Context.make(Trigger, trigger).pipe(Context.add(Stopping, Deferred.await(trigger)))
    )
  )
  // Built after the server, and therefore closed before it.
  return pull.pipe(Layer.provideMerge(server), Layer.provide(stopping))
}
