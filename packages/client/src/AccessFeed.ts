/**
 * Follows who has access: devices, open links, connecting clients and the approval mode, live over one connection.
 */
import * as Contract from "@sallyport/contract/AccessGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as WireError from "@sallyport/contract/WireError"
import * as Context from "effect/Context"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Sse from "effect/encoding/Sse"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { ClientError, UnexpectedAnswer } from "./ClientError.ts"
import { Connection } from "./Connection.ts"
import { Broken, garbled, type Refusal } from "./internal/answer.ts"
import { makeBudget } from "./internal/budget.ts"
import { noContent, read, type Step } from "./internal/eventReader.ts"
import { defaults } from "./internal/runsOptions.ts"
import { ReconnectHints } from "./ReconnectHints.ts"

/**
 * Describes a device that is signed in.
 *
 * @category models
 * @since 0.1.0
 */
export type Device = typeof Contract.FeedSession.Type

/**
 * Describes a pairing link that can still be redeemed.
 *
 * @category models
 * @since 0.1.0
 */
export type OpenLink = typeof Contract.FeedPairingLink.Type

/**
 * Describes a client that connects through a relay, or a device that comes in by a code, or asks to.
 *
 * @category models
 * @since 0.1.0
 */
export type ConnectClient = typeof Contract.FeedConnectClient.Type

/**
 * Describes a change of access, as the server wrote it: the event's name and its data.
 *
 * @category models
 * @since 0.1.0
 */
export type Change = Exclude<
  typeof Contract.KnownEvent.Type,
  { readonly event: "snapshot" | "revisionAdvanced" | "failure" }
>

/**
 * Describes who has access as of a revision.
 *
 * @category models
 * @since 0.1.0
 */
export interface AccessView {
  /** Whether the connection is open. If it is not, the rest is as old as the loss. */
  readonly connected: boolean
  readonly revision: number
  readonly devices: ReadonlyArray<Device>
  readonly links: ReadonlyArray<OpenLink>
  /** Devices and the clients of a relay; none if the server lets in neither, or this session may not decide about them. */
  readonly clients: Option.Option<ReadonlyArray<ConnectClient>>
  /** The approval mode; none if the server did not say it. Show neither mode then. */
  readonly mode: Option.Option<string>
  /** The last 200 changes since the follower began, the newest first. */
  readonly changes: ReadonlyArray<Change>
}

/**
 * Provides the access feed.
 *
 * @category services
 * @since 0.1.0
 */
export class AccessFeed extends Context.Service<AccessFeed, {
  /**
   * Emits who has access, now and after each change. After a lost connection it emits the last view as not connected, and
   * tries again until the server answers, from the last revision. It fails if the session ended or may not read this, or
   * if the server has a fault.
   */
  readonly follow: Stream.Stream<AccessView, ClientError>
}>()("@sallyport/client/AccessFeed") {}

const keptChanges = 200
/** How many entries a view may have in all: a server may go on without end. */
const maxEntries = 100_000

const decodeEvent = Schema.decodeUnknownOption(Contract.KnownEvent)

/** Replaces the entry with the same key, or adds it. */
const put = <A>(entries: ReadonlyArray<A>, entry: A, key: (entry: A) => string): ReadonlyArray<A> => {
  const at = entries.findIndex((other) => key(other) === key(entry))
  return at < 0 ? [...entries, entry] : entries.with(at, entry)
}

const byId = ({ id }: { readonly id: string }) => id
const byKey = ({ proofKeyThumbprint }: ConnectClient) => proofKeyThumbprint

/** Applies a change to the view before it. */
const applyChange = (view: AccessView, change: Change): AccessView => {
  const next = {
    ...view,
    revision: change.data.revision,
    changes: [change, ...view.changes].slice(0, keptChanges)
  }
  switch (change.event) {
    case "sessionUpserted":
      return { ...next, devices: put(view.devices, change.data.session, byId) }
    case "sessionRemoved":
      return { ...next, devices: view.devices.filter(({ id }) => id !== change.data.id) }
    case "pairingLinkUpserted":
      return { ...next, links: put(view.links, change.data.link, byId) }
    case "pairingLinkRemoved":
      return { ...next, links: view.links.filter(({ id }) => id !== change.data.id) }
    case "connectClientUpserted":
      return { ...next, clients: Option.some(put(Option.getOrElse(view.clients, () => []), change.data.client, byKey)) }
    case "connectClientRemoved":
      return {
        ...next,
        clients: Option.map(
          view.clients,
          (all) => all.filter((client) => byKey(client) !== change.data.proofKeyThumbprint)
        )
      }
    case "connectSecurityModeUpdated":
      return { ...next, mode: Option.some(change.data.mode) }
    default:
      return next
  }
}

const make = Effect.gen(function*() {
  const { httpClient } = yield* Connection
  const settings = yield* defaults
  const hints = yield* ReconnectHints
  // The connection ends with its scope, also while it has no reader.
  const api = yield* HttpApiClient.group(SallyportApi, {
    group: "access",
    httpClient: HttpClient.withScope(httpClient)
  })

  const follow = Stream.callback<AccessView, ClientError>((queue) =>
    Effect.gen(function*() {
      let view: AccessView = {
        connected: false,
        revision: 0,
        devices: [],
        links: [],
        clients: Option.none(),
        mode: Option.none(),
        changes: []
      }
      let known = false

      const take = (event: Sse.Event): Step<AccessView, UnexpectedAnswer | WireError.Unauthorized> => {
        if (!Object.hasOwn(Contract.feedData, event.event)) return { _tag: "Skip" }
        const decoded = decodeEvent({ id: event.id, event: event.event, data: event.data })
        if (Option.isNone(decoded)) return { _tag: "Fail", error: garbled("a change of access was not readable") }
        const change = decoded.value
        switch (change.event) {
          case "snapshot": {
            const { connectClients, connectSecurityMode, pairingLinks, revision, sessions } = change.data
            known = true
            view = {
              connected: true,
              revision,
              devices: sessions,
              links: pairingLinks,
              clients: Option.fromUndefinedOr(connectClients),
              mode: Option.fromUndefinedOr(connectSecurityMode),
              changes: view.changes
            }
            break
          }
          case "revisionAdvanced":
            view = { ...view, connected: true, revision: change.data.revision }
            break
          case "failure": {
            const { code, message, retryable } = change.data
            if (retryable) {
              return { _tag: "Fail", error: new Broken({ kind: "unavailable", detail: message, status: 200 }) }
            }
            return {
              _tag: "Fail",
              error: code === "session_ended"
                ? new WireError.Unauthorized({ code: "unauthorized", message, retryable, traceId: "" })
                : new UnexpectedAnswer({ status: 200, code, message })
            }
          }
          default:
            if (change.data.revision <= view.revision) return { _tag: "Skip" }
            view = { ...applyChange(view, change), connected: true }
        }
        const { clients, devices, links } = view
        if (
          devices.length + links.length + Option.match(clients, { onNone: () => 0, onSome: Arr.length }) > maxEntries
        ) {
          const message = `The server lists more than ${maxEntries} devices, links and clients`
          return { _tag: "Fail", error: new UnexpectedAnswer({ status: 200, code: null, message }) }
        }
        return { _tag: "Emit", value: view }
      }

      yield* read({
        connect: Effect.suspend(() =>
          api.follow({
            headers: known ? { "last-event-id": String(view.revision) } : {},
            query: {},
            responseMode: "response-only"
          })
        ),
        take,
        // There is no last attempt: a page that stays open goes on when its server is back.
        budget: makeBudget({ ...settings, maxAttempts: Infinity, maxDuration: Infinity }, hints),
        settings,
        onConnection: (isOpen) =>
          Effect.suspend(() => {
            // A connection that resumes may have nothing to say for a long time. The first one begins with a snapshot.
            if (isOpen && !known) return Effect.void
            view = { ...view, connected: isOpen }
            return Effect.asVoid(Queue.offer(queue, view))
          })
      }).pipe(
        Stream.runForEach((view) => Queue.offer(queue, view)),
        Effect.catch((error) => Queue.fail(queue, new ClientError({ reason: reasonOf(error) })))
      )
      yield* Queue.end(queue)
    })
  )

  return AccessFeed.of({ follow })
})

const reasonOf = (error: Refusal | typeof noContent | ClientError["reason"]): ClientError["reason"] =>
  error === noContent
    ? new UnexpectedAnswer({ status: 204, code: null, message: "The server offers no access feed" })
    : error

/**
 * Provides the access feed of the connection.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<AccessFeed, never, Connection> = Layer.effect(AccessFeed, make)
