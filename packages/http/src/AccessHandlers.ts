/**
 * Answers the endpoint of the access feed, as Server-Sent Events and on a WebSocket.
 */
import { feedData } from "@sallyport/contract/AccessGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import type { AccessEvent } from "@sallyport/core/access/AccessEvent"
import { AccessFeed, type AccessFeedError, type AccessFeedMessage } from "@sallyport/core/access/AccessFeed"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { parseCursor } from "@sallyport/core/runs/Run"
import type { SessionId } from "@sallyport/core/access/Session"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { isUpgrade } from "./Authentication.ts"
import * as EventStream from "./EventStream.ts"
import * as Wire from "./internal/wire.ts"

const encoderOf = <Name extends keyof typeof feedData>(name: Name) =>
  Schema.encodeSync(Schema.fromJsonString(feedData[name]))

const encodeSnapshot = encoderOf("snapshot")
const encodeLinkUpserted = encoderOf("pairingLinkUpserted")
const encodeLinkRemoved = encoderOf("pairingLinkRemoved")
const encodeClientUpserted = encoderOf("connectClientUpserted")
const encodeClientRemoved = encoderOf("connectClientRemoved")
const encodeModeUpdated = encoderOf("connectSecurityModeUpdated")
const encodeSessionUpserted = encoderOf("sessionUpserted")
const encodeSessionRemoved = encoderOf("sessionRemoved")
const encodeCredentialUpserted = encoderOf("credentialUpserted")
const encodeCredentialRemoved = encoderOf("credentialRemoved")
const encodeCredentialRead = encoderOf("credentialRead")
const encodeRevisionAdvanced = encoderOf("revisionAdvanced")

const dataOf = ({ actor, at, change, revision }: AccessEvent, current: SessionId): string => {
  const head = { revision, actor, at }
  switch (change._tag) {
    case "pairingLinkUpserted":
      return encodeLinkUpserted({ ...head, link: Wire.pairingLinkView(change.link) })
    case "pairingLinkRemoved":
      return encodeLinkRemoved({ ...head, id: change.id, reason: change.reason })
    case "connectClientUpserted":
      return encodeClientUpserted({ ...head, client: change.client })
    case "connectClientRemoved":
      return encodeClientRemoved({ ...head, proofKeyThumbprint: change.proofKeyThumbprint, reason: change.reason })
    case "connectSecurityModeUpdated":
      return encodeModeUpdated({ ...head, mode: change.mode })
    case "sessionUpserted":
      return encodeSessionUpserted({ ...head, session: Wire.sessionView(change.session, current) })
    case "sessionRemoved":
      return encodeSessionRemoved({ ...head, id: change.id, reason: change.reason })
    case "credentialUpserted":
      return encodeCredentialUpserted({ ...head, credential: change.credential })
    case "credentialRemoved":
      return encodeCredentialRemoved({ ...head, scope: change.scope, owner: change.owner, key: change.key })
    case "credentialRead":
      return encodeCredentialRead({
        ...head,
        source: change.source,
        owner: change.owner,
        key: change.key,
        count: change.count
      })
  }
}

/** Renders what the feed says for a reader. */
const toWire = (current: SessionId) => (message: AccessFeedMessage): EventStream.WireEvent => {
  if (message._tag === "Change") {
    const { event } = message
    return { id: String(event.revision), event: event.change._tag, data: dataOf(event, current) }
  }
  if (message._tag === "Advanced") {
    const { revision } = message
    return { id: String(revision), event: "revisionAdvanced", data: encodeRevisionAdvanced({ revision }) }
  }
  const { connectClients, connectSecurityMode, pairingLinks, revision, sessions } = message.snapshot
  return {
    id: String(revision),
    event: "snapshot",
    data: encodeSnapshot({
      revision,
      pairingLinks: pairingLinks.map(Wire.pairingLinkView),
      sessions: sessions.map((session) => Wire.sessionView(session, current)),
      ...(connectClients === undefined ? {} : { connectClients }),
      ...(connectSecurityMode === undefined ? {} : { connectSecurityMode })
    })
  }
}

const failureOf = (error: AccessFeedError): EventStream.Failure => ({
  code: "unavailable",
  message: error.message,
  retryable: true
})

/**
 * Provides the handlers of the group `access`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  SallyportApi,
  "access",
  Effect.fn(function*(handlers) {
    const feed = yield* AccessFeed
    const endOf = yield* EventStream.makeEnding
    const admit = yield* EventStream.makeAdmission
    const heartbeatInterval = yield* EventStream.HeartbeatInterval

    return handlers.handleAll({
      follow: Effect.fn(function*({ headers, query }) {
        const session = yield* CurrentSession
        const request = yield* HttpServerRequest.HttpServerRequest
        // A reconnecting EventSource sends the header, beside the query that its URL was made with.
        const text = headers["last-event-id"] ?? query.after
        const after = Option.flatMap(Option.fromUndefinedOr(text), parseCursor)
        if (text !== undefined && Option.isNone(after)) {
          return yield* Wire.malformedCursor({
            message: `${JSON.stringify(text)} is not a revision; give the id of the last event seen, or none`
          })
        }
        yield* admit(session)
        const events = feed.subscribe({ after: Option.getOrUndefined(after), reader: session }).pipe(
          Stream.map(toWire(session.id)),
          Stream.mapError(failureOf)
        )
        const options = { until: endOf(session), heartbeatInterval }
        if (!isUpgrade(request)) return EventStream.respond(events, options)
        // A request that asks for an upgrade and does not complete the handshake is for no handler to answer any more.
        return yield* Effect.orDie(EventStream.respondWebSocket(events, options))
      })
    })
  })
)
