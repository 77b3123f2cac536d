/**
 * Other ways to mount Sallyport than whole, at the root, with tables of the default names.
 */
import { RunGroup } from "@sallyport/contract/RunGroup"
import { SessionGroup } from "@sallyport/contract/SessionGroup"
import { Authentication, RunHandlers, Sallyport, SessionHandlers } from "@sallyport/http"
import { SqlRepositories } from "@sallyport/sql"
import { Layer } from "effect"
import { HttpApi, HttpApiBuilder } from "effect/http-api"

// #region prefix
/** Mounts everything below a path: the pairing page is `/sallyport/pair`, a run starts at `/sallyport/api/runs`. */
export const underPrefix = Sallyport.layer({ prefix: "/sallyport", continueTo: "/notes.txt" })
// #endregion prefix

// #region groups
/** An API of the same name with some of the groups: the handlers fit it. Links are issued by the host alone. */
class SessionsAndRuns extends HttpApi.make("sallyport").add(SessionGroup).add(RunGroup) {}

/** Mounts sessions and runs, without the endpoints of pairing links and without the pairing page. */
export const withoutPairing = HttpApiBuilder.layer(SessionsAndRuns, { openapiPath: "/api/openapi.json" }).pipe(
  Layer.provide([SessionHandlers.layer, RunHandlers.layer]),
  Layer.provide([Authentication.layer, Authentication.layerRequestErrors()])
)
// #endregion groups

// #region tables
/** Keeps the tables apart from others in the same database: `acme_sessions` instead of `sallyport_sessions`. */
export const ownTables = SqlRepositories.layerWith({ prefix: "acme_" })
// #endregion tables
