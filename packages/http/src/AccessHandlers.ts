/**
 * Answers the endpoints of the access feed: as Server-Sent Events and on a WebSocket, and backwards in pages.
 */
import { AccessChangeEntry, feedData } from "@sallyport/contract/AccessGroup"
import { pairingLinkView, sessionView } from "@sallyport/contract/AccessSchemas"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import type { AccessEvent } from "@sallyport/core/access/AccessEvent"
import { AccessFeed, type AccessFeedError, type AccessFeedMessage } from "@sallyport/core/access/AccessFeed"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { parseCursor } from "@sallyport/core/runs/Run"
import type { SessionId } from "@sallyport/core/access/Session"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as EventStream from "./EventStream.ts"
import { isUpgrade } from "./internal/origin.ts"
import * as Wire from "./internal/wire.ts"

const encodeSnapshot = Schema.encodeSync(Schema.fromJsonString(feedData.snapshot))
const encodeRevisionAdvanced = Schema.encodeSync(Schema.fromJsonString(feedData.revisionAdvanced))
const encodeChange = Schema.encodeSync(AccessChangeEntry)

/** Renders an event: its name, and its data. */
const entryOf = ({ actor, at, change, revision }: AccessEvent, current: SessionId | undefined): AccessChangeEntry => {
  const head = { revision, actor, at }
  switch (change._tag) {
    case "pairingLinkUpserted":
      return { event: change._tag, data: { ...head, link: pairingLinkView(change.link) } }
    case "pairingLinkRemoved":
      return { event: change._tag, data: { ...head, id: change.id, reason: change.reason } }
    case "connectClientUpserted":
      return { event: change._tag, data: { ...head, client: change.client } }
    case "connectClientRemoved":
      return {
        event: change._tag,
        data: { ...head, proofKeyThumbprint: change.proofKeyThumbprint, reason: change.reason }
      }
    case "connectSecurityModeUpdated":
      return { event: change._tag, data: { ...head, mode: change.mode } }
    case "sessionUpserted":
      return { event: change._tag, data: { ...head, session: sessionView(change.session, current) } }
    case "sessionRemoved":
      return { event: change._tag, data: { ...head, id: change.id, reason: change.reason } }
    case "credentialUpserted":
      return { event: change._tag, data: { ...head, credential: change.credential } }
    case "credentialRemoved":
      return {
        event: change._tag,
        data: { ...head, scope: change.scope, owner: change.owner, key: change.key }
      }
    case "credentialRead":
      return {
        event: change._tag,
        data: { ...head, source: change.source, owner: change.owner, key: change.key, count: change.count }
      }
  }
}

/**
 * Renders what the feed says for a reader: the session that asked, or the operator.
 *
 * @category converting
 * @since 0.1.0
 */
export const wireEvent = (current: SessionId | undefined) => (message: AccessFeedMessage): EventStream.WireEvent => {
  if (message._tag === "Change") {
    const { data, event } = encodeChange(entryOf(message.event, current))
    return { id: String(message.event.revision), event, data: JSON.stringify(data) }
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
      pairingLinks: pairingLinks.map(pairingLinkView),
      sessions: sessions.map((session) => sessionView(session, current)),
      ...(connectClients === undefined ? {} : { connectClients }),
      ...(connectSecurityMode === undefined ? {} : { connectSecurityMode })
    })
  }
}

const failureOf = (error: AccessFeedError): EventStream.Failure => ({
  code: "unavailable",
  message: error.message,
  retryable: true,
  cause: error.reason
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
    const countConnection = yield* EventStream.makeAdmission
    const heartbeatInterval = yield* EventStream.HeartbeatInterval

    return handlers.handleAll({
      history: Effect.fn(
        function*({ query }) {
          const session = yield* CurrentSession
          const before = Option.flatMap(Option.fromUndefinedOr(query.before), parseCursor)
          if (query.before !== undefined && Option.isNone(before)) {
            return yield* Wire.malformedCursor({
              message: `${JSON.stringify(query.before)} is not a revision; give the next of the page before, or none`
            })
          }
          const { events, next, retention } = yield* feed.history({
            reader: session,
            before: Option.getOrUndefined(before),
            kind: query.kind,
            search: query.search
          })
          return {
            events: events.map((event) => entryOf(event, session.id)),
            next: Option.getOrNull(next),
            ...Option.match(retention, {
              onNone: () => ({}),
              onSome: (retention) => ({ retentionSeconds: Math.floor(Duration.toSeconds(retention)) })
            })
          }
        },
        Effect.catchReasons("AccessFeedError", {
          AccessFeedUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
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
        yield* countConnection(session)
        const events = feed.subscribe({ after: Option.getOrUndefined(after), reader: session }).pipe(
          Stream.map(wireEvent(session.id)),
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
