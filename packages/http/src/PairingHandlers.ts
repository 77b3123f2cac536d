/**
 * Answers the endpoints of pairing links.
 */
import { pairingLinkView } from "@sallyport/contract/AccessSchemas"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import { reachOf } from "@sallyport/core/access/Principal"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as Text from "@sallyport/core/Text"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Schema from "effect/Schema"
import * as Wire from "./internal/wire.ts"

const isLinkId = Schema.is(Text.key())

const seconds = (count: number | undefined) => count === undefined ? undefined : Duration.seconds(count)

/**
 * Provides the handlers of the group `pairing`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  SallyportApi,
  "pairing",
  Effect.fn(function*(handlers) {
    const bootstrap = yield* BootstrapCredentialService
    return handlers.handleAll({
      issue: Effect.fn(
        function*({ payload }) {
          const session = yield* CurrentSession
          const { code, link } = yield* bootstrap.issue({
            issuedBy: session,
            scopes: payload.scopes ?? session.scopes,
            label: payload.label,
            kind: payload.kind,
            proofKeyThumbprint: payload.proofKeyThumbprint,
            lifetime: seconds(payload.lifetimeSeconds),
            sessionLifetime: seconds(payload.sessionLifetimeSeconds),
            sessionAbsoluteLifetime: seconds(payload.sessionAbsoluteLifetimeSeconds)
          })
          return { code, link: pairingLinkView(link) }
        },
        Effect.catchReasons("BootstrapCredentialError", {
          ScopeNotHeld: (reason) => Wire.scopeNotHeld(reason),
          MethodNotOffered: (reason) => Wire.methodNotOffered(reason),
          SubjectNotAllowed: (reason) => Wire.invalidRequest(reason),
          LabelNotAllowed: (reason) => Wire.invalidRequest(reason),
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          LifetimeOutOfBounds: (reason) => Wire.invalidRequest(reason),
          SessionLifetimeOutOfBounds: (reason) => Wire.invalidRequest(reason),
          IssuerEnded: (reason) => Wire.unauthorized(reason),
          TooManyOpenLinks: (reason) => Wire.tooManyLinks(reason),
          TooManyLetIn: (reason) => Wire.tooManySessions(reason),
          BootstrapStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      list: Effect.fn(
        function*({ query }) {
          const place = yield* Wire.readPlace(query.after, isLinkId)
          const links = yield* bootstrap.list({
            subject: reachOf(yield* CurrentSession),
            after: place === undefined ? undefined : { createdAt: place.time, id: place.id },
            limit: Wire.pageSize
          })
          return {
            links: links.map(pairingLinkView),
            next: Wire.nextPage(links, (last) => Wire.placeAt(last.createdAt, last.id))
          }
        },
        Effect.catchReasons("BootstrapCredentialError", {
          BootstrapStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      revoke: Effect.fn(
        function*({ payload }) {
          yield* bootstrap.revoke(payload.id, yield* CurrentSession)
        },
        Effect.catchReasons("BootstrapCredentialError", {
          LinkNotFound: (reason) => Wire.pairingLinkNotFound(reason),
          BootstrapStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      )
    })
  })
)
