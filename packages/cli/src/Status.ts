/**
 * Implements `sallyport status`: shows what a backend holds.
 */
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import type { PairingLink } from "@sallyport/core/access/PairingLink"
import * as Text from "@sallyport/core/Text"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const waiting = (clients: ReadonlyArray<{ readonly status: string }>) =>
  clients.filter(({ status }) => status === "pending").length

/** A part of the answer that the token may not read is null. */
const orNull = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catchIf(effect, ({ _tag }) => _tag === "Forbidden" || _tag === "NotFound", () => Effect.succeed(null))

/**
 * Shows what a backend holds.
 *
 * @category commands
 * @since 0.1.0
 */
export const status = Command.make(
  "status",
  StoreCommands.flags,
  Effect.fnUntraced(function*(flags) {
    const found = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const sessions = yield* SessionCredentialService.SessionCredentialService
        const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
        const clients = yield* ConnectClientStore.ConnectClientStore
        const limit = StoreCommands.pageSize
        return {
          sessions: (yield* StoreCommands.pages((after: SessionCredentialService.ListedSession | undefined) =>
            sessions.list({ after: after?.session.id, limit })
          )).length,
          links: (yield* StoreCommands.pages((after: PairingLink | undefined) =>
            bootstrap.list({ after, limit })
          ))
            .length,
          waitingClients: waiting(yield* clients.list()),
          securityMode: yield* clients.securityMode,
          // Only a server that runs knows.
          identities: null
        }
      }),
      server: Effect.fnUntraced(function*({ api }) {
        const sessions = yield* StoreCommands.serverPages((query) =>
          Effect.map(api.session.list({ query }), ({ next, sessions }) => [sessions, next] as const)
        )
        const links = yield* StoreCommands.serverPages((query) =>
          Effect.map(api.pairing.list({ query }), ({ links, next }) => [links, next] as const)
        )
        const clients = yield* orNull(api.connect.clients({ query: {} }))
        const mode = yield* orNull(api.connect.securityMode())
        const { policy } = yield* api.session.state()
        return {
          sessions: sessions.length,
          links: links.length,
          waitingClients: clients === null ? null : waiting(clients.clients),
          securityMode: mode === null ? null : mode.mode,
          identities: policy.identities
        }
      })
    })
    yield* Terminal.print(flags.json, Output.Status, found, ({ doubtful, strong }) =>
      [
        `${strong("Sessions")}        ${found.sessions}`,
        `${strong("Open links")}      ${found.links}`,
        `${strong("Waiting clients")} ${
          found.waitingClients === null
            ? "not for this token"
            : found.waitingClients === 0
            ? "0"
            : doubtful(`${found.waitingClients}; see "sallyport connect clients"`)
        }`,
        `${strong("Who may connect")} ${found.securityMode ?? "not for this token"}`,
        ...(found.identities === null || found.identities.length === 0
          ? []
          : [`${strong("Identities of")}   ${
            Array.from(new Set(found.identities.map(({ issuer }) => Text.shown(issuer)))).join(", ")
          }`])
      ].join("\n"))
  })
).pipe(Command.withDescription("Show how many sessions, open links and waiting clients a backend has"))
