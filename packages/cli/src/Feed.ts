/**
 * Implements `sallyport feed`: follows the changes of sessions, links, clients and credentials, with who made them.
 */
import { KnownEvent } from "@sallyport/contract/AccessGroup"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as Text from "@sallyport/core/Text"
import * as AccessHandlers from "@sallyport/http/AccessHandlers"
import type * as EventStream from "@sallyport/http/EventStream"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as ServerSentEvents from "./internal/serverSentEvents.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const parent = Command.make("feed").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("Follow who changed what")
)

const decodeJson = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Json))

/**
 * Follows the changes of a backend, as its server sends them. The answer never ends.
 *
 * @category operations
 * @since 0.1.0
 */
export const follow = <E, R>(
  flags: StoreCommands.Flags,
  after: number | undefined,
  show: (event: EventStream.WireEvent) => Effect.Effect<void, E, R>
) =>
  StoreCommands.ask(flags, {
    store: Effect.flatMap(AccessFeed.AccessFeed, (feed) =>
      feed.subscribe(after === undefined ? {} : { after }).pipe(
        Stream.map(AccessHandlers.wireEvent(undefined)),
        Stream.runForEach(show)
      )),
    server: ({ api }) =>
      ServerSentEvents.forEach(
        api.access.follow({
          headers: {},
          query: after === undefined ? {} : { after: String(after) },
          responseMode: "response-only"
        }),
        show
      )
  })

const decodeKnown = Schema.decodeUnknownOption(KnownEvent)

/** Says what an event tells; none of an event that the reader is better shown as it is. */
const said = (known: typeof KnownEvent.Type): Option.Option<string> => {
  const { data, event } = known
  switch (event) {
    case "snapshot":
      return Option.some([
        Terminal.count(data.sessions.length, "session"),
        Terminal.count(data.pairingLinks.length, "open link"),
        ...(data.connectClients === undefined ? [] : [Terminal.count(data.connectClients.length, "client")]),
        ...(data.connectSecurityMode === undefined ? [] : [`mode ${data.connectSecurityMode}`])
      ].join(", "))
    case "pairingLinkUpserted": {
      const { id, label, scopes } = data.link
      return Option.some(`link ${Text.shortId(id)} is open${label === null ? "" : `, "${label}"`}: ${scopes.join(" ")}`)
    }
    case "pairingLinkRemoved":
      return Option.some(`link ${Text.shortId(data.id)} is ${data.reason}`)
    case "sessionUpserted": {
      const { device, id, scopes } = data.session
      return Option.some(
        `session ${Text.shortId(id)} is live, "${device.label ?? device.address ?? "no name"}": ${scopes.join(" ")}`
      )
    }
    case "sessionRemoved":
      return Option.some(`session ${Text.shortId(data.id)} is ${data.reason}`)
    case "connectClientUpserted": {
      const { label, proofKeyThumbprint, reason, status } = data.client
      return Option.some(
        `client ${Text.shortId(proofKeyThumbprint)} is ${status}${label === null ? "" : `, "${label}"`}` +
          (reason === null ? "" : `: ${reason}`)
      )
    }
    case "connectClientRemoved":
      return Option.some(`client ${Text.shortId(data.proofKeyThumbprint)} is gone: ${data.reason}`)
    case "connectSecurityModeUpdated":
      return Option.some(`mode is ${data.mode}`)
    case "credentialUpserted":
      return Option.some(`credential ${data.credential.key} of ${data.credential.owner} is set`)
    case "credentialRemoved":
      return Option.some(`credential ${data.key} of ${data.owner} is removed`)
    case "credentialRead":
      return Option.some(`credential ${data.key} of ${data.owner} was read ${Terminal.count(data.count, "time")}`)
    default:
      return Option.none()
  }
}

/** Writes an event in a line: its number, its time, who made the change, and the change. */
const toLine = (event: EventStream.WireEvent, { time }: Terminal.Screen): Option.Option<string> =>
  Option.flatMap(decodeKnown(event), (known) =>
    Option.map(said(known), (text) =>
      [
        (event.id ?? "").padStart(6),
        ...("at" in known.data ? [time(known.data.at), Text.shown(known.data.actor)] : []),
        Text.shown(text)
      ].join("  ")))

const tail = Command.make(
  "tail",
  {
    after: StoreCommands.afterFlag(
      "Begin after the change with this number, 0 for all; by default with what is there now"
    ).pipe(Flag.optional)
  },
  Effect.fnUntraced(function*({ after }) {
    const flags = yield* parent
    const show = Effect.fnUntraced(function*({ data, event, id }: EventStream.WireEvent) {
      const shown = { id: id ?? null, event, data: yield* decodeJson(data) }
      yield* Terminal.print(
        flags.json,
        Output.FeedEvent,
        shown,
        (screen) =>
          Option.getOrElse(
            toLine({ data, event, id }, screen),
            () => `${String(shown.id ?? "").padStart(6)}  ${event}  ${Terminal.jsonLine(shown.data)}`
          )
      )
    })
    yield* follow(flags, Option.getOrUndefined(after), show)
  })
).pipe(Command.withDescription("Show what is there, then every change, until interrupted"))

/**
 * Follows the access feed.
 *
 * @category commands
 * @since 0.1.0
 */
export const feed = parent.pipe(Command.withSubcommands([tail]))
