/** Reads whole lists, of a store and of a server. */
import { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import type { ConnectClient } from "@sallyport/core/access/ConnectClient"
import type { PairingLink } from "@sallyport/core/access/PairingLink"
import { type ListedSession, SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import { ConnectClientStore } from "@sallyport/core/connect/ConnectClientStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Server } from "./storeCommands.ts"

/** How many entries a page of a list holds at most. */
export const pageSize = 200

/** Reads a list of a store page by page. */
export const pages = <A, E, R>(read: (after: A | undefined) => Effect.Effect<ReadonlyArray<A>, E, R>) =>
  Stream.runCollect(Stream.paginate(
    undefined,
    (after: A | undefined) =>
      Effect.map(
        read(after),
        (page) => [page, page.length < pageSize ? Option.none() : Option.some(page.at(-1))] as const
      )
  ))

/** Reads a list of a server page by page. */
export const serverPages = <A, E, R>(
  read: (query: { readonly after?: string }) => Effect.Effect<readonly [ReadonlyArray<A>, string | null], E, R>
) =>
  Stream.runCollect(Stream.paginate(
    {},
    (query: { readonly after?: string }) =>
      Effect.map(read(query), ([page, next]) =>
        [page, next === null ? Option.none() : Option.some({ after: next })] as const)
  ))

export const sessions = {
  store: SessionCredentialService.use((service) =>
    pages((after: ListedSession | undefined) => service.list({ after: after?.session.id, limit: pageSize }))
  ),
  server: ({ api }: Server) =>
    serverPages((query) => Effect.map(api.session.list({ query }), ({ next, sessions }) => [sessions, next] as const))
}

export const links = {
  store: BootstrapCredentialService.use((service) =>
    pages((after: PairingLink | undefined) => service.list({ after, limit: pageSize }))
  ),
  server: ({ api }: Server) =>
    serverPages((query) => Effect.map(api.pairing.list({ query }), ({ links, next }) => [links, next] as const))
}

export const clients = {
  store: ConnectClientStore.use((store) =>
    pages((after: ConnectClient | undefined) => store.list({ after, limit: pageSize }))
  ),
  server: ({ api }: Server) =>
    serverPages((query) => Effect.map(api.connect.clients({ query }), ({ clients, next }) => [clients, next] as const))
}
