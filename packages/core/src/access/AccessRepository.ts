/**
 * Where access state is kept: pairing links, sessions, authorization codes, connect clients, scoped credentials, and the
 * feed of their changes.
 *
 * They are one port, because they commit together: a decision about a client ends sessions and links, and each change and
 * its event are one transaction. A store provides all of it or none.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { AccessFeedRepository } from "./AccessFeedRepository.ts"
import type { AuthorizationCodeRepository } from "./AuthorizationCodeRepository.ts"
import type { BootstrapCredentialRepository } from "./BootstrapCredentialRepository.ts"
import type { ConnectClientRepository } from "./ConnectClientRepository.ts"
import * as Clients from "./internal/memoryClients.ts"
import * as Codes from "./internal/memoryCodes.ts"
import * as Credentials from "./internal/memoryCredentials.ts"
import * as Feed from "./internal/memoryFeed.ts"
import * as Links from "./internal/memoryLinks.ts"
import * as Redeem from "./internal/memoryRedeem.ts"
import * as Sessions from "./internal/memorySessions.ts"
import * as MemoryState from "./internal/memoryState.ts"
import * as Unsupported from "./internal/unsupportedParts.ts"
import type { ScopedCredentialRepository } from "./ScopedCredentialRepository.ts"
import type { SessionCredentialRepository } from "./SessionCredentialRepository.ts"

/**
 * Provides the atomic steps on the access state of one store.
 *
 * @category services
 * @since 0.1.0
 */
export class AccessRepository extends Context.Service<AccessRepository, {
  /** The pairing links. */
  readonly links: BootstrapCredentialRepository
  /** The sessions and their tickets. */
  readonly sessions: SessionCredentialRepository
  /** The authorization codes. */
  readonly codes: AuthorizationCodeRepository
  /** The clients that connect through a relay, and the security mode. */
  readonly clients: ConnectClientRepository
  /** The scoped credentials. */
  readonly credentials: ScopedCredentialRepository
  /** The feed, for those who read it. */
  readonly feed: AccessFeedRepository
}>()("@sallyport/core/access/AccessRepository") {}

/**
 * Holds the parts of a store that keeps no connect clients, no authorization codes and no scoped credentials: each step of
 * them fails as unsupported, and says so.
 *
 * **When to use**
 *
 * Use when a store of your own serves hosts that need none of them.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unsupported: Pick<AccessRepository["Service"], "clients" | "codes" | "credentials"> = {
  clients: Unsupported.clients,
  codes: Unsupported.codes,
  credentials: Unsupported.credentials
}

/**
 * Provides the access state in memory, for tests and for hosts whose sessions may end with the process.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<AccessRepository> = Layer.sync(AccessRepository, () => {
  const state = MemoryState.make()
  return AccessRepository.of({
    links: { ...Links.make(state), redeem: Redeem.make(state) },
    sessions: Sessions.make(state),
    codes: Codes.make(state),
    clients: Clients.make(state),
    credentials: Credentials.make(state),
    feed: Feed.make(state)
  })
})
