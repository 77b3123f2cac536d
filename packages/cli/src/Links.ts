/**
 * Implements `sallyport pair` and `sallyport links`: lets a device in with a new pairing link, lists the open links, and
 * revokes one.
 */
import { type PairingLinkView, pairingLinkView } from "@sallyport/contract/AccessSchemas"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as Text from "@sallyport/core/Text"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { networkInterfaces } from "node:os"
import { CommandFailed } from "./ExitCode.ts"
import * as Addresses from "./internal/addresses.ts"
import * as Lists from "./internal/lists.ts"
import * as PairingLinks from "./internal/pairingLinks.ts"
import { pairingText } from "./internal/pairingText.ts"
import { isSecure } from "./internal/publicAddress.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const parent = Command.make("links").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("Show and revoke the pairing links that can still be redeemed")
)

const table = Terminal.table<PairingLinkView>([
  { name: "LINK", of: ({ id }) => Text.shortId(id), whole: true },
  { name: "FOR", of: ({ subject }) => subject },
  { name: "LABEL", of: ({ label }) => label ?? "no name" },
  { name: "BY", of: ({ createdBy }) => createdBy },
  { name: "UNTIL", of: ({ expiresAt }, { time }) => time(expiresAt), whole: true }
])

const idsOf = Effect.map((links: ReadonlyArray<{ readonly id: string }>) => links.map(({ id }) => id))

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
      store: Effect.map(Lists.links.store, (links) => links.map(pairingLinkView)),
      server: Lists.links.server
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
      Argument.withDescription("The link's id, or its beginning as \"links list\" shows it")
    )
  },
  Effect.fnUntraced(function*({ id: name }) {
    const flags = yield* parent
    const id = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
        const id = yield* StoreCommands.idOf(name, "links", idsOf(Lists.links.store))
        return yield* Effect.as(bootstrap.revoke(id, "operator"), id)
      }),
      server: Effect.fnUntraced(function*(server) {
        const id = yield* StoreCommands.idOf(name, "links", idsOf(Lists.links.server(server)))
        return yield* Effect.as(server.api.pairing.revoke({ payload: { id } }), id)
      })
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
const lanAddress = Effect.fnUntraced(function*(port: number) {
  const any = yield* Effect.fromResult(NetAddress.inetAddress(NetAddress.ipv4Unspecified, port))
  const [url] = Addresses.urlsOf(any, networkInterfaces())
  if (url !== undefined && url !== Addresses.localUrl(any)) return url
  return yield* new CommandFailed({
    code: "Failed",
    message: "This machine has no address in a network; connect it, or name an address with --public-url"
  })
})

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
    lifetime: StoreCommands.durationFlag("lifetime", "How long the link can be redeemed, such as \"10 minutes\""),
    sessionLifetime: StoreCommands.durationFlag(
      "session-lifetime",
      "How long the device then stays signed in without being used, such as \"7 days\""
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
    port: StoreCommands.portFlag.pipe(Flag.withDescription("The port of the server, for an address of this machine"))
  },
  Effect.fnUntraced(
    function*({ label, lan, lifetime, machine, port, publicUrl, scope, sessionLifetime, subject, ...flags }) {
      const scopes = yield* StoreCommands.scopesOf(scope)
      if (lan && Option.isSome(publicUrl)) {
        return yield* new CommandFailed({ code: "Usage", message: "Give --lan or --public-url, not both" })
      }
      // The address is read first: a misspelt one must leave no link behind.
      const address = lan
        ? yield* lanAddress(port)
        : Option.getOrElse(Option.orElse(publicUrl, () => flags.url), () => `http://127.0.0.1:${port}`)
      const baseUrl = yield* Effect.fromResult(PairingUrl.httpBase(address))
      const wanted: PairingLinks.Wanted = {
        kind: machine ? "machine" : "device",
        label,
        scopes,
        subject,
        lifetime,
        sessionLifetime
      }
      const { code, link } = yield* StoreCommands.ask(flags, {
        store: PairingLinks.issue(wanted),
        server: (server) => PairingLinks.issueBy(server, wanted)
      })
      const pairingUrl = yield* Effect.fromResult(PairingUrl.make(baseUrl, code))
      yield* Terminal.print(
        flags.json,
        Output.Pairing,
        { link, code, pairingUrl },
        ({ columns }) =>
          pairingText({
            what: "To pair a device, open",
            baseUrl,
            code,
            pairingUrl,
            expiresAt: link.expiresAt,
            columns
          })
      )
      if (!isSecure(new URL(baseUrl))) {
        yield* Console.error(
          "sallyport: A browser pairs over https only, except on this machine; see --public-url"
        )
      }
    }
  )
).pipe(
  Command.withDescription("Make a pairing link for a new device, and show it with a QR code"),
  Command.withExamples([
    { command: "sallyport pair --public-url https://sallyport.example", description: "For a phone" },
    { command: "sallyport pair --scope runs:read --label tablet", description: "For a device that only reads runs" }
  ])
)
