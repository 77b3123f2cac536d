/**
 * Implements `sallyport feed`: follows the changes of sessions, links, clients and credentials, with who made them.
 */
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
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
      Stream.runForEach(
        ServerSentEvents.read(api.access.follow({
          headers: {},
          query: after === undefined ? {} : { after: String(after) },
          responseMode: "response-only"
        })),
        show
      )
  })

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
        () => `${String(shown.id ?? "").padStart(6)}  ${event}  ${Terminal.jsonLine(shown.data)}`
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
