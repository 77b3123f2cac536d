/**
 * Answers the endpoints with which an owner decides who may connect, through a relay or as a device.
 */
import { connectClientView } from "@sallyport/contract/ConnectGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { Thumbprint } from "@sallyport/core/access/ConnectClient"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import type { Decision } from "@sallyport/core/access/ConnectClientRepository"
import { ConnectClientStore } from "@sallyport/core/connect/ConnectClientStore"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Wire from "./internal/wire.ts"

const isThumbprint = Schema.is(Thumbprint)

/**
 * Provides the handlers of the group `connect`, for a host that provides a `ConnectClientStore`. Without one they answer
 * that the server lets in neither devices nor clients of a relay.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  SallyportApi,
  "connect",
  Effect.fn(function*(handlers) {
    const provided = yield* Effect.serviceOption(ConnectClientStore)
    const store = Option.isSome(provided)
      ? Effect.succeed(provided.value)
      : Wire.connectNotOffered({ message: "This server lets in neither devices by a code nor clients of a relay" })

    const decide = (decision: Decision) =>
      Effect.fn(
        function*({ payload }: {
          readonly payload: {
            readonly client: string
            readonly code?: string
            readonly reason?: string
            readonly scopes?: ReadonlyArray<AccessScope>
          }
        }) {
          const clients = yield* store
          const by = yield* CurrentSession
          return { client: connectClientView(yield* clients.decide({ ...payload, decision, by })) }
        },
        Effect.catchReasons("ConnectClientError", {
          ClientNotFound: (reason) => Wire.connectClientNotFound(reason),
          ClientAmbiguous: (reason) => Wire.connectClientAmbiguous(reason),
          RequestExpired: (reason) => Wire.connectRequestExpired(reason),
          RequestChanged: (reason) => Wire.connectRequestChanged(reason),
          ReasonNotAllowed: (reason) => Wire.invalidRequest(reason),
          CodeNeeded: (reason) => Wire.invalidRequest(reason),
          ScopeNotGrantable: (reason) =>
            reason.problem === "not-held" ? Wire.scopeNotHeld(reason) : Wire.invalidRequest(reason),
          ApproverEnded: (reason) => Wire.unauthorized(reason),
          ConnectStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      )

    return handlers.handleAll({
      securityMode: Effect.fn(
        function*() {
          const clients = yield* store
          return { mode: yield* clients.securityMode }
        },
        Effect.catchReasons("ConnectClientError", {
          SecurityModeUnreadable: (reason) => Wire.securityModeUnreadable(reason),
          ConnectStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      setSecurityMode: Effect.fn(
        function*({ payload }) {
          const clients = yield* store
          const by = yield* CurrentSession
          const approved = yield* clients.setSecurityMode({ ...payload, by })
          return { mode: payload.mode, approved: approved.map(connectClientView) }
        },
        Effect.catchReasons("ConnectClientError", {
          ConnectStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      clients: Effect.fn(
        function*({ query }) {
          const clients = yield* store
          const place = yield* Wire.readPlace(query.after, isThumbprint)
          const page = yield* clients.list({
            after: place === undefined ? undefined : { requestedAt: place.time, proofKeyThumbprint: place.id },
            limit: Wire.pageSize
          })
          return {
            clients: page.map(connectClientView),
            next: Wire.nextPage(page, (last) => Wire.placeAt(last.requestedAt, last.proofKeyThumbprint))
          }
        },
        Effect.catchReasons("ConnectClientError", {
          ConnectStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      find: Effect.fn(
        function*({ payload }) {
          const clients = yield* store
          const by = yield* CurrentSession
          return { client: connectClientView(yield* clients.findByCode(payload.code, by.id)) }
        },
        Effect.catchReasons("ConnectClientError", {
          ClientNotFound: () =>
            Wire.connectClientNotFound({ message: "No device waits with this code; check what its screen shows" }),
          TooManyCodes: (reason) => Wire.rateLimited(reason),
          ConnectStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      approve: decide("approved"),
      reject: decide("rejected"),
      revoke: decide("revoked"),
      block: decide("blocked")
    })
  })
)
