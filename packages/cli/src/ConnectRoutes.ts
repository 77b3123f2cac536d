/**
 * Serves the routes on which the reference backend answers the relay that it is linked to, and tells its owner of that
 * relay.
 */
import { ConnectEnvironmentApi, ConnectLinkApi } from "@sallyport/contract/ConnectProtocol"
import * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as Authentication from "@sallyport/http/Authentication"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Layer from "effect/Layer"

/**
 * Adds the routes to the router. The relay is answered 404 until the backend is linked.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = Layer.merge(
  HttpApiBuilder.layer(ConnectEnvironmentApi).pipe(Layer.provide(EnvironmentHandlers.layerConfig)),
  HttpApiBuilder.layer(ConnectLinkApi).pipe(
    Layer.provide(EnvironmentHandlers.layerLink),
    Layer.provide(Authentication.layer)
  )
).pipe(Layer.provide(Authentication.layerRequestErrors()))
