/**
 * Implements `sallyport connect`: decides which clients may connect through a relay, whether the backend runs or not.
 *
 * A decision is one transaction on the backend's own store. A running backend learns of it through the access feed, and
 * ends the client's access at once.
 */
import * as EnvironmentLink from "@sallyport/connect/EnvironmentLink"
import * as Linking from "@sallyport/connect/Linking"
import type { EnvironmentHealth } from "@sallyport/contract/ConnectProtocol"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import { type ConnectClient, SecurityMode } from "@sallyport/core/access/ConnectClient"
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
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Persistence from "./Persistence.ts"

/**
 * Lists the exit codes of these commands; 1 is any other failure.
 *
 * @category constants
 * @since 0.1.0
 */
export const exitCodes = {
  ClientNotFound: 3,
  ClientAmbiguous: 4,
  RequestExpired: 5,
  RequestChanged: 6,
  SecurityModeUnreadable: 7,
  ConnectStoreUnavailable: 8,
  ReasonNotAllowed: 1,
  TooManyWaiting: 1,
  NotLinked: 9,
  RelayNotTold: 10,
  NoState: StoreCommands.noStateExitCode
} as const

const parent = Command.make("connect").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("Decide who may connect through a relay")
)

/** A code or a token is sent only to the named relay: redirects are not followed. */
const layerHttp = Layer.provide(
  FetchHttpClient.layer,
  Layer.succeed(FetchHttpClient.RequestInit, { redirect: "error", credentials: "omit" })
)

/** Runs a command on the backend's store. */
const withStore = Effect.fnUntraced(
  function*<A, E, R>(
    run: (options: { readonly json: boolean }) => Effect.Effect<A, E, R>,
    creates = false
  ) {
    const flags = yield* parent
    const services = Layer.provideMerge(
      Layer.merge(ConnectClientStore.layerConfig, AccessFeed.layerConfig),
      StoreCommands.layerStore(flags, creates)
    )
    return yield* Effect.provide(run(flags), services)
  },
  Effect.catchIf(
    (error) => error instanceof ConnectClientStore.ConnectClientError,
    StoreCommands.failWith(exitCodes)
  ),
  // A store that cannot be opened is unavailable, like one that is lost later.
  Effect.catchIf(
    (error) => error instanceof Persistence.DatabaseError,
    ({ message }) =>
      Effect.fail(
        new StoreCommands.CommandFailed({ sentence: message, exitCode: exitCodes.ConnectStoreUnavailable })
      )
  )
)

const formatTime = (time: DateTime.Utc | null): string | null => time === null ? null : DateTime.formatIso(time)

const toJson = (client: ConnectClient) => ({
  ...client,
  firstSeenAt: formatTime(client.firstSeenAt),
  requestedAt: formatTime(client.requestedAt),
  pendingUntil: formatTime(client.pendingUntil),
  decidedAt: formatTime(client.decidedAt),
  lastSeenAt: formatTime(client.lastSeenAt)
})

/** Describes a client in a line, which its own texts cannot reorder. */
const toLine = (client: ConnectClient): string =>
  [
    client.proofKeyThumbprint.slice(0, 12),
    client.status.padEnd(8),
    client.status === "pending" ? client.verificationCode : " ".repeat(9),
    Text.shown(client.account),
    Text.shown(client.label ?? client.deviceType),
    DateTime.formatIso(client.requestedAt).slice(0, 16).replace("T", " ")
  ].join("  ")

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
      Flag.withDescription("Approve this client among them, by its thumbprint or a prefix of it; can be repeated"),
      Flag.between(0, 1_000)
    )
  },
  ({ mode, trust, trustAll }) =>
    withStore(
      Effect.fnUntraced(function*({ json }) {
        const clients = yield* ConnectClientStore.ConnectClientStore
        if (Option.isNone(mode)) {
          const current = yield* clients.securityMode
          return yield* Console.log(json ? JSON.stringify({ mode: current }) : current)
        }
        const named = yield* Effect.forEach(trust, (client) => clients.get(client))
        const approved = yield* clients.setSecurityMode({
          mode: mode.value,
          trust: trustAll ? "all" : named.map((client) => client.proofKeyThumbprint),
          by: "operator"
        })
        if (json) return yield* Console.log(JSON.stringify({ mode: mode.value, approved: approved.map(toJson) }))
        yield* Console.log(mode.value)
        for (const client of approved) yield* Console.log(toLine(client))
        for (const client of named) {
          if (client.status === "observed" || client.status === "approved") continue
          yield* Console.log(
            `${client.proofKeyThumbprint.slice(0, 12)} is ${client.status} and was not changed; approve it with ` +
              `"sallyport connect approve"`
          )
        }
        if (mode.value === "client-approval") {
          const observed = (yield* clients.list()).filter((client) => client.status === "observed")
          if (observed.length > 0) {
            yield* Console.log(
              `${observed.length} clients seen so far need approval now; trust them one by one with ` +
                `"sallyport connect approve", or all with --trust-all`
            )
          }
        }
      }),
      Option.isSome(mode)
    )
).pipe(Command.withDescription("Show or set who may connect"))

const list = Command.make("clients", {}, () =>
  withStore(Effect.fnUntraced(function*({ json }) {
    const clients = yield* ConnectClientStore.ConnectClientStore
    let after: ConnectClient | undefined
    const all: Array<ConnectClient> = []
    while (true) {
      const page: ReadonlyArray<ConnectClient> = yield* clients.list({ after, limit: 200 })
      all.push(...page)
      after = page.at(-1)
      if (page.length < 200) break
    }
    if (json) return yield* Console.log(JSON.stringify({ clients: all.map(toJson) }))
    if (all.length === 0) return yield* Console.log("No client has asked to connect yet")
    for (const client of all) yield* Console.log(toLine(client))
  }))).pipe(Command.withDescription("List the clients, the newest request first"))

const decision = (name: "approve" | "reject" | "revoke" | "block", decision: Decision, description: string) =>
  Command.make(
    name,
    {
      client: Argument.String("client").pipe(
        Argument.withDescription("The client's thumbprint, or a prefix of it that no other client shares")
      ),
      code: Flag.String("code").pipe(
        Flag.withDescription("The verification code on the client's screen; with a different one nothing is changed"),
        Flag.optional
      ),
      reason: Flag.String("reason").pipe(Flag.withDescription("Why, for the record"), Flag.optional)
    },
    ({ client, code, reason }) =>
      withStore(Effect.fnUntraced(function*({ json }) {
        const clients = yield* ConnectClientStore.ConnectClientStore
        const decided = yield* clients.decide({
          client,
          decision,
          by: "operator",
          code: Option.getOrUndefined(code),
          reason: Option.getOrUndefined(reason)
        })
        yield* Console.log(json ? JSON.stringify({ client: toJson(decided) }) : toLine(decided))
      }))
  ).pipe(Command.withDescription(description))

const watch = Command.make("watch", {}, () =>
  withStore(Effect.fnUntraced(function*({ json }) {
    const feed = yield* AccessFeed.AccessFeed
    // A change that the line does not show, such as when a client was last seen, is not printed for a person.
    const shown = new Map<string, string>()
    const show = (client: ConnectClient) => {
      if (json) return Console.log(JSON.stringify({ client: toJson(client) }))
      const line = toLine(client)
      if (shown.get(client.proofKeyThumbprint) === line) return Effect.void
      shown.set(client.proofKeyThumbprint, line)
      return Console.log(line)
    }
    yield* Stream.runForEach(feed.subscribe(), (message) => {
      if (message._tag === "Snapshot") {
        const pending = (message.snapshot.connectClients ?? []).filter((client) => client.status === "pending")
        return Effect.forEach(pending, show, { discard: true })
      }
      if (message._tag === "Advanced") return Effect.void
      const { change } = message.event
      switch (change._tag) {
        case "connectClientUpserted":
          return show(change.client)
        case "connectClientRemoved":
          shown.delete(change.proofKeyThumbprint)
          return Console.log(
            json
              ? JSON.stringify({ removed: change.proofKeyThumbprint, reason: change.reason })
              : `${change.proofKeyThumbprint.slice(0, 12)}  ${change.reason}`
          )
        case "connectSecurityModeUpdated":
          return Console.log(json ? JSON.stringify({ mode: change.mode }) : `The mode is ${change.mode}`)
        default:
          return Effect.void
      }
    })
  }))).pipe(Command.withDescription("Show the waiting clients, then every change, until interrupted"))

const status = Command.make("status", {}, () =>
  withStore(Effect.fnUntraced(function*({ json }) {
    const clients = yield* ConnectClientStore.ConnectClientStore
    const linked = Option.getOrUndefined(yield* EnvironmentLink.get)
    const mode = yield* clients.securityMode
    if (json) {
      return yield* Console.log(JSON.stringify({
        mode,
        link: linked === undefined ? null : {
          environmentId: linked.environmentId,
          account: linked.account,
          relayUrl: linked.relayUrl,
          relayId: linked.relayId,
          url: linked.url ?? null
        }
      }))
    }
    yield* Console.log(
      linked === undefined
        ? "Linked to no relay"
        : `Linked to ${linked.relayUrl} as ${linked.environmentId}, which belongs to ${Text.shown(linked.account)}`
    )
    if (linked?.url !== undefined) yield* Console.log(`Registered there at ${linked.url}`)
    yield* Console.log(`Who may connect: ${mode}`)
  }))).pipe(Command.withDescription("Show which relay this backend is linked to, and who may connect"))

/** Refuses a misspelt address before the one-time code is used up. */
const isAddress = Flag.filter(
  (address: string) => URL.canParse(address) && /^https?:/.test(address),
  () => "Expected an address such as https://host"
)

/** Says why clients do not get through yet, in this program's words: the relay's text may hold anything. */
const describeHealth = ({ status }: EnvironmentHealth, url: string): string | undefined => {
  const remedy = "start it there, or link it again with another --url"
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
    url: Flag.String("url").pipe(
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
      Effect.fnUntraced(function*({ json }) {
        const token = yield* Linking.exchangeCode({ relayUrl: relay, code })
        const { account, environmentId } = yield* Linking.link({ relayUrl: relay, token, url, newKey })
        if (!json) yield* Console.log(`Linked to ${relay} as ${environmentId}, which belongs to ${Text.shown(account)}`)
        const health = yield* Effect.result(Linking.health({ relayUrl: relay, token, environmentId }))
        if (json) {
          const found = Option.getOrNull(Result.getSuccess(health))
          yield* Console.log(JSON.stringify({ environmentId, account, relayUrl: relay, health: found }))
        }
        const warning = Result.match(health, {
          onSuccess: (found) => describeHealth(found, url),
          onFailure: ({ message }) => `It is not known whether the relay reaches this backend at ${url}. ${message}`
        })
        if (warning !== undefined) yield* Console.error(`sallyport: ${warning}`)
      }, Effect.provide(layerHttp)),
      true
    )
).pipe(Command.withDescription("Link this backend to a relay"))

const rotateKey = Command.make("rotate-key", {}, () =>
  withStore(Effect.fnUntraced(
    function*({ json }) {
      const { keyId, previousUntilMillis } = yield* Linking.rotateKey
      const until = previousUntilMillis === null ? null : DateTime.formatIso(DateTime.makeUnsafe(previousUntilMillis))
      yield* Console.log(
        json
          ? JSON.stringify({ keyId, previousUntil: until })
          : `This backend signs with the key ${keyId} now. The relay accepts the previous key until ${
            until ?? "ten minutes after it has seen the new one"
          }`
      )
    },
    Effect.provide(layerHttp),
    Effect.catchTag("NotLinked", ({ message }) =>
      Effect.fail(
        new StoreCommands.CommandFailed({
          sentence: `${message}; link it with "sallyport connect link"`,
          exitCode: exitCodes.NotLinked
        })
      ))
  ))).pipe(
    Command.withDescription("Replace the key by which the relay knows this backend; run it again after an interruption")
  )

const unlink = Command.make("unlink", {}, () =>
  withStore(Effect.fnUntraced(
    function*({ json }) {
      const untold = yield* Effect.catchTag(Linking.unlink, "NotLinked", () => Effect.succeed(Option.none()))
      yield* Console.log(
        json ? JSON.stringify({ link: null, relayTold: Option.isNone(untold) }) : "No longer linked to a relay"
      )
      if (Option.isSome(untold)) {
        return yield* new StoreCommands.CommandFailed({
          sentence: `The relay still lists this backend, which no longer answers it. Unlink it there as ` +
            `well, with your account. ${untold.value.message}`,
          exitCode: exitCodes.RelayNotTold
        })
      }
    },
    Effect.provide(layerHttp)
  ))).pipe(
    Command.withDescription(
      "Stop answering the relay, and tell it; clients keep their access here until you revoke them"
    )
  )

/**
 * Decides which clients may connect through a relay.
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
