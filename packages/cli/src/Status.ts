/**
 * Implements `sallyport status`: shows what a backend holds.
 */
import { ConnectClientStore } from "@sallyport/core/connect/ConnectClientStore"
import * as Text from "@sallyport/core/Text"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Lists from "./internal/lists.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const waiting = (clients: ReadonlyArray<{ readonly status: string }>) =>
  clients.filter(({ status }) => status === "pending").length

/** Says of a part of the answer why there is none, if the token may not read it or the server lets no client connect. */
const orWhy = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(effect, Result.succeed).pipe(
    Effect.catchIf(({ _tag }) => _tag === "Forbidden", () => Effect.succeed(Result.fail("not for this token"))),
    Effect.catchIf(({ _tag }) => _tag === "NotFound", () => Effect.succeed(Result.fail("not offered by this server")))
  )

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
    const { clients, identities, links, mode, sessions } = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        return {
          sessions: yield* Lists.sessions.store,
          links: yield* Lists.links.store,
          clients: Result.succeed(waiting(yield* Lists.clients.store)),
          mode: Result.succeed(yield* ConnectClientStore.use((store) => store.securityMode)),
          // Only a server that runs knows.
          identities: null
        }
      }),
      server: Effect.fnUntraced(function*(server) {
        return {
          sessions: yield* Lists.sessions.server(server),
          links: yield* Lists.links.server(server),
          clients: Result.map(yield* orWhy(Lists.clients.server(server)), waiting),
          mode: Result.map(yield* orWhy(server.api.connect.securityMode()), ({ mode }) => mode),
          identities: (yield* server.api.session.state()).policy.identities
        }
      })
    })
    const found = {
      sessions: sessions.length,
      links: links.length,
      waitingClients: Option.getOrNull(Result.getSuccess(clients)),
      securityMode: Option.getOrNull(Result.getSuccess(mode)),
      identities
    }
    yield* Terminal.print(flags.json, Output.Status, found, ({ doubtful, strong }) =>
      [
        `${strong("Sessions")}        ${found.sessions}`,
        `${strong("Open links")}      ${found.links}`,
        `${strong("Waiting clients")} ${
          Result.match(clients, {
            onFailure: (why) => why,
            onSuccess: (waiting) => waiting === 0 ? "0" : doubtful(`${waiting}; see "sallyport connect clients"`)
          })
        }`,
        `${strong("Who may connect")} ${Result.merge(mode)}`,
        ...(identities === null || identities.length === 0
          ? []
          : [`${strong("Identities of")}   ${
            Array.from(new Set(identities.map(({ issuer }) => Text.shown(issuer)))).join(", ")
          }`])
      ].join("\n"))
  })
).pipe(Command.withDescription("Show how many sessions, open links and waiting clients a backend has"))
