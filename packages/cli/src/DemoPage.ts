/**
 * The page at `/` of the reference backend: it starts the demonstration run, follows it, and joins it again after a reload
 * or a lost connection.
 */
import * as PairPage from "@sallyport/http/PairPage"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as Layer from "effect/Layer"
import { body, script, style } from "./internal/demoPage.ts"

/**
 * Adds the page to the router, as `GET /`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, never, HttpRouter.HttpRouter | SecureRandom.SecureRandom> = HttpRouter.use(
  Effect.fnUntraced(function*(router) {
    const random = yield* SecureRandom.SecureRandom
    const page = PairPage.document({ title: "Sallyport", body, style, script })
    yield* router.add("GET", "/", Effect.provideService(page, SecureRandom.SecureRandom, random))
  })
)
