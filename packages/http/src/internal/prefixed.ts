import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"

/** Mounts routes below a path, if one is given. */
export const prefixed =
  (prefix: `/${string}` | undefined) =>
  <A, E, R>(routes: Layer.Layer<A, E, R>): Layer.Layer<A, E, HttpRouter.HttpRouter | R> =>
    prefix === undefined ? routes : Layer.provide(
      routes,
      Layer.effect(HttpRouter.HttpRouter, Effect.map(HttpRouter.HttpRouter, (router) => router.prefixed(prefix)))
    )
