/**
 * Serves the routes on which the reference backend answers the relay that it is linked to.
 */
import { ConnectEnvironmentApi } from "@sallyport/contract/ConnectProtocol"
import * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as Authentication from "@sallyport/http/Authentication"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Layer from "effect/Layer"

/**
 * Adds the routes to the router. They answer 404 until the backend is linked.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.layer(ConnectEnvironmentApi).pipe(
  Layer.provide(EnvironmentHandlers.layerConfig),
  Layer.provide(Authentication.layerRequestErrors())
)
