/**
 * Implements `sallyport pair` and `sallyport links`: lets a device in with a new pairing link, lists the open links, and
 * revokes one.
 */
import { PairingLinkView } from "@sallyport/contract/AccessSchemas"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import type { PairingLink } from "@sallyport/core/access/PairingLink"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { networkInterfaces } from "node:os"
import * as Addresses from "./internal/addresses.ts"
import { pairingText } from "./internal/pairingText.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const view = (link: PairingLink) =>
  new PairingLinkView({
    ...link,
    sessionLifetimeSeconds: link.sessionLifetime === null ? null : Duration.toSeconds(link.sessionLifetime)
  })

const parent = Command.make("links").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("Show and revoke the pairing links that can still be redeemed")
)

const table = Terminal.table<PairingLinkView>([
  { name: "LINK", of: ({ id }) => id, whole: true },
  { name: "FOR", of: ({ subject }) => subject },
  { name: "LABEL", of: ({ label }) => label ?? "no name" },
  { name: "BY", of: ({ createdBy }) => createdBy },
  { name: "UNTIL", of: ({ expiresAt }) => Terminal.shortTime(expiresAt), whole: true }
])

const list = Command.make(
  "list",
  {
    subject: Flag.String("subject").pipe(
      Flag.withDescription("Show only what belongs to this subject"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function*({ subject }) {
    const flags = yield* parent
    const found = yield* StoreCommands.ask(flags, {
      store: Effect.flatMap(BootstrapCredentialService.BootstrapCredentialService, (bootstrap) =>
        Effect.map(
          StoreCommands.pages((after: PairingLink | undefined) =>
            bootstrap.list({ after, limit: StoreCommands.pageSize })
          ),
          (links) => links.map(view)
        )),
      server: ({ api }) =>
        StoreCommands.serverPages((query) =>
          Effect.map(api.pairing.list({ query }), ({ links, next }) => [links, next] as const)
        )
    })
    const links = found.filter((link) => Option.getOrElse(subject, () => link.subject) === link.subject)
    yield* Terminal.print(
      flags.json,
      Output.Links,
      { links },
      (screen) => links.length === 0 ? "No pairing link is open" : table(links, screen)
    )
  })
).pipe(Command.withDescription("List the pairing links that can still be redeemed, the newest first"))

const revoke = Command.make(
  "revoke",
  {
    id: Argument.String("link").pipe(
      Argument.withSchema(Schema.NonEmptyString),
      Argument.withDescription("The link's id")
    )
  },
  Effect.fnUntraced(function*({ id }) {
    const flags = yield* parent
    yield* StoreCommands.ask(flags, {
      store: Effect.flatMap(
        BootstrapCredentialService.BootstrapCredentialService,
        (bootstrap) => bootstrap.revoke(id, "operator")
      ),
      server: ({ api }) => api.pairing.revoke({ payload: { id } })
    })
    yield* Terminal.print(flags.json, Output.Revoked, { revoked: id }, () => `Revoked ${id}`)
  })
).pipe(Command.withDescription("Revoke a pairing link before it is redeemed"))

/**
 * Lists and revokes pairing links.
 *
 * @category commands
 * @since 0.1.0
 */
export const links = parent.pipe(Command.withSubcommands([list, revoke]))

/** Returns the address under which other machines of the network reach a server of this machine. */
const lanAddress = (port: number) =>
  Effect.map(
    Effect.fromResult(NetAddress.inetAddress(NetAddress.ipv4Unspecified, port)),
    (address) => Addresses.urlsOf(address, networkInterfaces()).slice(0, 1)
  )

/**
 * Makes a pairing link and shows it, with a QR code.
 *
 * @category commands
 * @since 0.1.0
 */
export const pair = Command.make(
  "pair",
  {
    ...StoreCommands.flags,
    label: Flag.String("label").pipe(
      Flag.withDescription("The name under which the device is listed"),
      Flag.optional
    ),
    scope: StoreCommands.scopeFlag,
    subject: StoreCommands.subjectFlag,
    lifetime: Flag.String("lifetime").pipe(
      Flag.withSchema(Schema.DurationFromString),
      Flag.withDescription("How long the link can be redeemed, such as \"10 minutes\""),
      Flag.optional
    ),
    machine: Flag.Boolean("machine").pipe(
      Flag.withDescription("Make a longer code, which is pasted rather than typed"),
      Flag.withDefault(false)
    ),
    publicUrl: Flag.String("public-url").pipe(
      Flag.withDescription("The address under which the device reaches the server; with --url that one by default"),
      Flag.optional
    ),
    lan: Flag.Boolean("lan").pipe(
      Flag.withDescription("Use the address of this machine in its network"),
      Flag.withDefault(false)
    ),
    port: Flag.Int("port").pipe(
      Flag.withDescription("The port of the server, for an address of this machine"),
      Flag.withDefault(4590)
    )
  },
  Effect.fnUntraced(function*({ label, lan, lifetime, machine, port, publicUrl, scope, subject, ...flags }) {
    const scopes = yield* StoreCommands.scopesOf(scope)
    // The address is read first: a misspelt one must leave no link behind.
    const [address = `http://127.0.0.1:${port}`] = Option.isSome(publicUrl)
      ? [publicUrl.value]
      : lan
      ? yield* lanAddress(port)
      : Option.toArray(flags.url)
    const baseUrl = yield* Effect.fromResult(PairingUrl.httpBase(address))
    const { code, link } = yield* StoreCommands.ask(flags, {
      store: Effect.flatMap(BootstrapCredentialService.BootstrapCredentialService, (bootstrap) =>
        Effect.map(
          bootstrap.issue({
            issuedBy: "operator",
            scopes: scopes ?? "all",
            subject: Option.getOrUndefined(subject),
            label: Option.getOrUndefined(label),
            kind: machine ? "machine" : "device",
            lifetime: Option.getOrUndefined(lifetime)
          }),
          ({ code, link }) => ({ code, link: view(link) })
        )),
      server: Effect.fnUntraced(function*({ api }) {
        if (Option.isSome(subject)) {
          return yield* StoreCommands.onlyOnStore("--subject", "leave it out: the token says for whom")
        }
        return yield* api.pairing.issue({
          payload: {
            kind: machine ? "machine" : "device",
            ...(scopes === undefined ? {} : { scopes }),
            ...Option.match(label, { onNone: () => ({}), onSome: (label) => ({ label }) }),
            ...Option.match(lifetime, {
              onNone: () => ({}),
              onSome: (lifetime) => ({ lifetimeSeconds: Math.ceil(Duration.toSeconds(lifetime)) })
            })
          }
        })
      })
    })
    const pairingUrl = yield* Effect.fromResult(PairingUrl.make(baseUrl, code))
    yield* Terminal.print(
      flags.json,
      Output.Pairing,
      { link, code, pairingUrl },
      () =>
        pairingText({ what: "To pair a device, open", baseUrl, code, pairingUrl, expiresAt: link.expiresAt, qr: true })
    )
    const { hostname, protocol } = new URL(baseUrl)
    if (protocol === "http:" && !/^(?:127\.|localhost$|\[::1\]$)/.test(hostname)) {
      yield* Console.error(
        "sallyport: A browser pairs over https only, except on this machine; see --public-url"
      )
    }
  })
).pipe(
  Command.withDescription("Make a pairing link for a new device, and show it with a QR code"),
  Command.withExamples([
    { command: "sallyport pair --public-url https://sallyport.example", description: "For a phone" },
    { command: "sallyport pair --scope runs:read --label tablet", description: "For a device that only reads runs" }
  ])
)
