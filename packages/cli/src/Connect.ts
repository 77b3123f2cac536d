/**
 * Implements `sallyport connect`: decides which clients may connect, through a relay or as devices, whether the backend runs
 * or not.
 *
 * A decision is one transaction on the backend's own store. A running backend learns of it through the access feed, and
 * ends the client's access at once.
 */
import * as EnvironmentLink from "@sallyport/connect/EnvironmentLink"
import * as Linking from "@sallyport/connect/Linking"
import { ConnectClientView, connectClientView } from "@sallyport/contract/ConnectGroup"
import type { EnvironmentHealth } from "@sallyport/contract/ConnectProtocol"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { SecurityMode } from "@sallyport/core/access/ConnectClient"
import type { Decision } from "@sallyport/core/access/ConnectClientRepository"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Text from "@sallyport/core/Text"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { CommandFailed } from "./ExitCode.ts"
import * as Feed from "./Feed.ts"
import { codeOf } from "./internal/failures.ts"
import * as Lists from "./internal/lists.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const parent = Command.make("connect").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("Decide who may connect, through a relay or as a device")
)

const short = ({ proofKeyThumbprint }: { readonly proofKeyThumbprint: string }) => Text.shortId(proofKeyThumbprint)

/** Says what a client is after a decision. */
const toSentence = (client: ConnectClientView): string =>
  `${Text.shown(client.label ?? client.deviceType)} of ${Text.shown(client.account)} is ${client.status} (${
    short(client)
  })`

/** Describes a client in a line, which its own texts cannot reorder. */
const toLine = (client: ConnectClientView): string =>
  [
    short(client),
    client.status.padEnd(8),
    client.status === "pending" ? client.verificationCode : " ".repeat(9),
    Text.shown(client.account),
    Text.shown(client.label ?? client.deviceType),
    DateTime.formatIso(client.requestedAt).slice(0, 16).replace("T", " ")
  ].join("  ")

const table = Terminal.table<ConnectClientView>([
  { name: "CLIENT", of: short, whole: true },
  {
    name: "STATUS",
    of: ({ status }) => status,
    whole: true,
    paint: ({ status }, { bad, doubtful, good }) =>
      status === "approved" ? good : status === "pending" || status === "observed" ? doubtful : bad
  },
  { name: "CODE", of: ({ status, verificationCode }) => status === "pending" ? verificationCode : "", whole: true },
  { name: "ACCOUNT", of: ({ account }) => account },
  { name: "DEVICE", of: ({ deviceType, label }) => label ?? deviceType },
  { name: "ASKED", of: ({ requestedAt }, { time }) => time(requestedAt), whole: true }
])

/** Says what devices that wait ask for, each in a line of its own. */
const requests = (clients: ReadonlyArray<ConnectClientView>, titles: StoreCommands.Titles) =>
  clients.flatMap(({ requestedScopes, status, verificationCode }) =>
    status !== "pending" || requestedScopes === undefined
      ? []
      : [
        `${verificationCode} asks for ${StoreCommands.scopesText(requestedScopes, titles)}: ` +
        `see "sallyport connect approve"`
      ]
  )

/** Says what devices were let in for, each in a line of its own, and what they were not given of what they asked for. */
const grants = (clients: ReadonlyArray<ConnectClientView>, titles: StoreCommands.Titles) =>
  clients.flatMap(({ grantedScopes, requestedScopes = [], ...client }) => {
    if (grantedScopes === undefined) return []
    const left = AccessScope.missing(grantedScopes, requestedScopes)
    const more = left.length === 0 ? "" : `, and not for ${StoreCommands.scopesText(left, titles)}, which it asked for`
    return [`${short(client)} was let in for ${StoreCommands.scopesText(grantedScopes, titles)}${more}`]
  })

/** Finds the client that a prefix of its thumbprint names, and no other. */
const theOne = Effect.fnUntraced(function*(clients: ReadonlyArray<ConnectClientView>, name: string) {
  const [client, ...others] = clients.filter(({ proofKeyThumbprint }) => proofKeyThumbprint.startsWith(name))
  if (client !== undefined && others.length === 0) return client
  return yield* client === undefined
    ? new CommandFailed({ code: "NotFound", message: `There is no client ${JSON.stringify(name)}` })
    : new CommandFailed({
      code: "Ambiguous",
      message: `Several clients begin with ${JSON.stringify(name)}; give more of the thumbprint`
    })
})

const security = Command.make(
  "security",
  {
    mode: Argument.Literals("mode", SecurityMode.literals).pipe(
      Argument.withDescription(
        "client-approval: clients that you approve; account: every client of the relay's account"
      ),
      Argument.optional
    ),
    trustAll: Flag.Boolean("trust-all").pipe(
      Flag.withDescription("Approve every client that was let in by its account alone so far"),
      Flag.withDefault(false)
    ),
    trust: Flag.String("trust").pipe(
      Flag.withDescription(
        "Approve this client, let in by its account alone so far, by its thumbprint or a prefix of it; can be repeated"
      ),
      Flag.between(0, 1_000)
    )
  },
  Effect.fnUntraced(function*({ mode, trust, trustAll }) {
    const flags = yield* parent
    if (Option.isNone(mode)) {
      const current = yield* StoreCommands.ask(flags, {
        store: Effect.flatMap(ConnectClientStore.ConnectClientStore, (clients) => clients.securityMode),
        server: ({ api }) => Effect.map(api.connect.securityMode(), ({ mode }) => mode)
      })
      return yield* Terminal.print(flags.json, Output.Security, { mode: current }, () => current)
    }
    const { approved, named, observed } = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const clients = yield* ConnectClientStore.ConnectClientStore
        const named = yield* Effect.forEach(trust, (client) => clients.get(client))
        const approved = yield* clients.setSecurityMode({
          mode: mode.value,
          trust: trustAll ? "all" : named.map((client) => client.proofKeyThumbprint),
          by: "operator"
        })
        const observed = (yield* Lists.clients.store).filter((client) => client.status === "observed")
        return {
          approved: approved.map(connectClientView),
          named: named.map(connectClientView),
          observed: observed.map(connectClientView)
        }
      }),
      server: Effect.fnUntraced(function*(server) {
        const known = trust.length === 0 ? [] : yield* Lists.clients.server(server)
        const named = yield* Effect.forEach(trust, (name) => theOne(known, name))
        const { approved } = yield* server.api.connect.setSecurityMode({
          payload: { mode: mode.value, trust: trustAll ? "all" : named.map((client) => client.proofKeyThumbprint) }
        })
        const observed = (yield* Lists.clients.server(server)).filter((client) => client.status === "observed")
        return { approved, named, observed }
      })
    }, true)
    yield* Terminal.print(flags.json, Output.Security, { mode: mode.value, approved }, () =>
      [
        mode.value,
        ...approved.map(toLine),
        ...named.filter(({ status }) => status !== "observed" && status !== "approved").map((client) =>
          `${short(client)} is ${client.status} and was not changed; approve it with "sallyport connect approve"`
        ),
        ...(mode.value === "client-approval" && observed.length > 0
          ? [
            `${Terminal.count(observed.length, "client")} seen so far ${observed.length === 1 ? "needs" : "need"} ` +
            `approval now; give it one by one with "sallyport connect approve", or to all with --trust-all`
          ]
          : [])
      ].join("\n"))
  })
).pipe(Command.withDescription("Show or set who may connect"))

const list = Command.make(
  "clients",
  {},
  Effect.fnUntraced(function*() {
    const flags = yield* parent
    const { clients, titles } = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const clients = yield* Lists.clients.store
        return { clients: clients.map(connectClientView), titles: yield* StoreCommands.ownTitles }
      }),
      server: (server) => Effect.all({ clients: Lists.clients.server(server), titles: StoreCommands.titlesOf(server) })
    })
    yield* Terminal.print(
      flags.json,
      Output.ConnectClients,
      { clients },
      (screen) =>
        clients.length === 0
          ? "No client has asked to connect yet"
          : [table(clients, screen), ...requests(clients, titles), ...grants(clients, titles)].join("\n")
    )
  })
).pipe(Command.withDescription("List the clients, the newest request first"))

const decision = (name: "approve" | "reject" | "revoke" | "block", decision: Decision, description: string) =>
  Command.make(
    name,
    {
      client: Argument.String("client").pipe(
        Argument.withDescription("The client's thumbprint, or a prefix of it that no other client shares")
      ),
      code: Flag.String("code").pipe(
        Flag.withDescription(
          "The verification code on the client's screen; with a different one nothing is changed. A device needs it to be approved"
        ),
        Flag.optional
      ),
      reason: Flag.String("reason").pipe(Flag.withDescription("Why, for the record"), Flag.optional),
      scope: Flag.String("scope").pipe(
        Flag.withDescription("What a device that is approved may do: what it asks for, or less; can be repeated"),
        Flag.between(0, 64)
      )
    },
    Effect.fnUntraced(function*({ client, code, reason, scope }) {
      const flags = yield* parent
      const scopes = yield* StoreCommands.scopesOf(scope)
      const decided = yield* StoreCommands.ask(flags, {
        store: Effect.flatMap(ConnectClientStore.ConnectClientStore, (clients) =>
          Effect.map(
            clients.decide({
              client,
              decision,
              by: "operator",
              code: Option.getOrUndefined(code),
              reason: Option.getOrUndefined(reason),
              scopes
            }),
            connectClientView
          )),
        server: ({ api }) =>
          Effect.map(
            api.connect[name]({
              payload: {
                client,
                ...Option.match(code, { onNone: () => ({}), onSome: (code) => ({ code }) }),
                ...Option.match(reason, { onNone: () => ({}), onSome: (reason) => ({ reason }) }),
                ...(scopes === undefined ? {} : { scopes })
              }
            }),
            ({ client }) => client
          )
      }).pipe(Effect.mapError((error) =>
        codeOf(error) === "NotFound" && /^\w{4}-\w{4}$/.test(client)
          ? new CommandFailed({
            code: "NotFound",
            message: `There is no client ${client}. If that is the code on its screen, name the client as ` +
              `"sallyport connect clients" lists it, and give the code with --code`
          })
          : error
      ))
      yield* Terminal.print(flags.json, Output.Decision, { client: decided }, () => toSentence(decided))
    })
  ).pipe(Command.withDescription(description))

const watched = <const Name extends string, S extends Schema.Top>(event: Name, data: S) =>
  Schema.Struct({ event: Schema.Literal(event), data: Schema.fromJsonString(data) })

/** Reads what the feed tells of clients; none of anything else. */
const decodeWatched = Schema.decodeUnknownOption(Schema.Union([
  watched("snapshot", Schema.Struct({ connectClients: Schema.optionalKey(Schema.Array(ConnectClientView)) })),
  watched("connectClientUpserted", Schema.Struct({ client: ConnectClientView })),
  watched("connectClientRemoved", Schema.Struct({ proofKeyThumbprint: Schema.String, reason: Schema.String })),
  watched("connectSecurityModeUpdated", Schema.Struct({ mode: SecurityMode }))
]))

const watch = Command.make(
  "watch",
  {},
  Effect.fnUntraced(function*() {
    const flags = yield* parent
    // A change that the line does not show, such as when a client was last seen, is not printed for a person.
    const shown = new Map<string, string>()
    const tell = (change: typeof Output.ConnectChange.Type, line: string) =>
      Terminal.print(flags.json, Output.ConnectChange, change, () => line)
    const show = (client: ConnectClientView) => {
      const line = toLine(client)
      if (!flags.json && shown.get(client.proofKeyThumbprint) === line) return Effect.void
      shown.set(client.proofKeyThumbprint, line)
      return tell({ client }, line)
    }
    yield* Feed.follow(flags, undefined, (event) =>
      Option.match(decodeWatched(event), {
        onNone: () => Effect.void,
        onSome: Effect.fnUntraced(function*(change) {
          switch (change.event) {
            case "snapshot": {
              const { connectClients } = change.data
              if (connectClients === undefined) {
                return yield* new CommandFailed({
                  code: "NotAllowed",
                  message: "The token may not see who waits; issue one that has the scope connect:manage"
                })
              }
              const pending = connectClients.filter((client) => client.status === "pending")
              return yield* Effect.forEach(pending, show, { discard: true })
            }
            case "connectClientUpserted":
              return yield* show(change.data.client)
            case "connectClientRemoved":
              shown.delete(change.data.proofKeyThumbprint)
              return yield* tell(
                { removed: change.data.proofKeyThumbprint, reason: change.data.reason },
                `${short(change.data)}  ${change.data.reason}`
              )
            case "connectSecurityModeUpdated":
              return yield* tell({ mode: change.data.mode }, `The mode is ${change.data.mode}`)
          }
        })
      }))
  })
).pipe(Command.withDescription("Show the waiting clients, then every change, until interrupted"))

/** Runs a command that only the backend's own store can answer. */
const withStore = Effect.fnUntraced(function*<A, E, R>(
  name: string,
  run: (json: boolean) => Effect.Effect<A, E, R>,
  creates = false
) {
  const flags = yield* parent
  if (Option.isSome(flags.url)) {
    return yield* StoreCommands.onlyOnStore(
      `"connect ${name}"`,
      "run it there; \"connect status\" shows the link with --url"
    )
  }
  return yield* Effect.provide(run(flags.json), StoreCommands.layer(flags, creates))
})

const status = Command.make(
  "status",
  {},
  Effect.fnUntraced(function*() {
    const flags = yield* parent
    const found = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const clients = yield* ConnectClientStore.ConnectClientStore
        const link = yield* EnvironmentLink.get
        return {
          mode: yield* clients.securityMode,
          link: Option.getOrNull(Option.map(link, EnvironmentLink.view))
        }
      }),
      server: Effect.fnUntraced(function*({ api, connectLink }) {
        const { mode } = yield* api.connect.securityMode()
        // A server that takes devices only has no link to tell of.
        const none = () => Effect.succeed({ link: null })
        const { link } = yield* Effect.catchTag(connectLink.connectLink.link(), "NotFound", none)
        return { mode, link }
      })
    })
    yield* Terminal.print(flags.json, Output.ConnectStatus, found, () =>
      [
        ...(found.link === null ? ["Linked to no relay"] : [
          `Linked to ${found.link.relayUrl} as ${found.link.environmentId}, which belongs to ${
            Text.shown(found.link.account)
          }`,
          `Registered there at ${found.link.url}`
        ]),
        `Who may connect: ${found.mode}`
      ].join("\n"))
  })
).pipe(Command.withDescription("Show which relay this backend is linked to, and who may connect"))

/** Refuses a misspelt address before the one-time code is used up. */
const isAddress = Flag.filter(
  (address: string) => URL.canParse(address) && /^https?:/.test(address),
  () => "Expected an address such as https://host"
)

/** Says why clients do not get through yet, in this program's words: the relay's text may hold anything. */
const describeHealth = ({ status }: EnvironmentHealth, url: string): string | undefined => {
  const remedy = "start it there, or link it again with another --public-url"
  switch (status) {
    case "healthy":
      return undefined
    case "unreachable":
      return `The relay cannot reach this backend at ${url} yet; ${remedy}`
    case "refused":
    case "link_anew":
      return `The server that answers the relay at ${url} does not prove to be this backend; ${remedy}`
  }
}

const link = Command.make(
  "link",
  {
    relay: Flag.String("relay").pipe(Flag.withDescription("The relay's address"), isAddress),
    code: Flag.Redacted("code").pipe(
      Flag.withDescription("A one-time code of your account at the relay"),
      Flag.withFallbackConfig(Config.Redacted("SALLYPORT_LINK_CODE"))
    ),
    url: Flag.String("public-url").pipe(
      Flag.withDescription("The address under which the relay reaches this backend"),
      isAddress
    ),
    newKey: Flag.Boolean("new-key").pipe(
      Flag.withDescription("Make a new key for this backend first, for example after the old one was stolen"),
      Flag.withDefault(false)
    )
  },
  ({ code, newKey, relay, url }) =>
    withStore(
      "link",
      Effect.fnUntraced(function*(json) {
        const token = yield* Linking.exchangeCode({ relayUrl: relay, code })
        const { account, environmentId } = yield* Linking.link({ relayUrl: relay, token, url, newKey })
        if (!json) yield* Console.log(`Linked to ${relay} as ${environmentId}, which belongs to ${Text.shown(account)}`)
        const health = yield* Effect.result(Linking.health({ relayUrl: relay, token, environmentId }))
        if (json) {
          const found = Option.getOrNull(Result.getSuccess(health))
          yield* Terminal.print(
            json,
            Output.Linked,
            { environmentId, account, relayUrl: relay, health: found },
            () => ""
          )
        }
        const warning = Result.match(health, {
          onSuccess: (found) => describeHealth(found, url),
          onFailure: ({ message }) => `It is not known whether the relay reaches this backend at ${url}. ${message}`
        })
        if (warning !== undefined) yield* Console.error(`sallyport: ${warning}`)
      }, Effect.provide(StoreCommands.layerHttp)),
      true
    )
).pipe(Command.withDescription("Link this backend to a relay"))

const rotateKey = Command.make("rotate-key", {}, () =>
  withStore(
    "rotate-key",
    Effect.fnUntraced(
      function*(json) {
        const { keyId, previousUntilMillis } = yield* Linking.rotateKey
        const previousUntil = previousUntilMillis === null ? null : DateTime.makeUnsafe(previousUntilMillis)
        yield* Terminal.print(json, Output.RotatedKey, { keyId, previousUntil }, () =>
          `This backend signs with the key ${keyId} now. The relay accepts the previous key until ${
            previousUntil === null ? "ten minutes after it has seen the new one" : DateTime.formatIso(previousUntil)
          }`)
      },
      Effect.provide(StoreCommands.layerHttp),
      Effect.catchTag("NotLinked", ({ message }) =>
        new CommandFailed({ code: "NotLinked", message: `${message}; link it with "sallyport connect link"` }))
    )
  )).pipe(
    Command.withDescription("Replace the key by which the relay knows this backend; run it again after an interruption")
  )

const unlink = Command.make("unlink", Terminal.yesFlag, ({ yes }) =>
  withStore(
    "unlink",
    Effect.fnUntraced(
      function*(json) {
        yield* Terminal.confirm(
          yes,
          "Unlink this backend from its relay? Linking it again needs a code of the account."
        )
        const untold = yield* Effect.catchTag(Linking.unlink, "NotLinked", () => Effect.succeed(Option.none()))
        yield* Terminal.print(
          json,
          Output.Unlinked,
          { link: null, relayTold: Option.isNone(untold) },
          () => "No longer linked to a relay"
        )
        if (Option.isSome(untold)) {
          return yield* new CommandFailed({
            code: "RelayNotTold",
            message: `The relay still lists this backend, which no longer answers it. Unlink it there as ` +
              `well, with your account. ${untold.value.message}`
          })
        }
      },
      Effect.provide(StoreCommands.layerHttp)
    )
  )).pipe(
    Command.withDescription(
      "Stop answering the relay, and tell it; clients keep their access here until you revoke them"
    )
  )

/**
 * Decides which clients may connect, through a relay or as devices.
 *
 * @category commands
 * @since 0.1.0
 */
export const connect = parent.pipe(
  Command.withSubcommands([
    status,
    link,
    rotateKey,
    unlink,
    security,
    list,
    decision("approve", "approved", "Let a client in from now on"),
    decision("reject", "rejected", "Reject a client; it may ask again later"),
    decision("revoke", "revoked", "Revoke an approval, and end the client's access"),
    decision("block", "blocked", "Block a client permanently"),
    watch
  ])
)
