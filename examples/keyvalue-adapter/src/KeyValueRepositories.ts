/**
 * The access state on a `KeyValueStore`, as one layer.
 */
import type { RepositoryError } from "@sallyport/core"
import { AccessRepository, unsupported } from "@sallyport/core/access/AccessRepository"
import { Effect, Layer } from "effect"
import type { KeyValueStore } from "effect/persistence"
import * as AccessLog from "./AccessLog.ts"
import * as Feed from "./KeyValueAccessFeedRepository.ts"
import * as Links from "./KeyValueBootstrapCredentialRepository.ts"
import * as Sessions from "./KeyValueSessionCredentialRepository.ts"

// #region layer
/** Provides the access state for one process, which is the only one that writes to the store. */
export const layer: Layer.Layer<
  AccessRepository,
  RepositoryError.RepositoryError,
  KeyValueStore.KeyValueStore
> = Layer.effect(
  AccessRepository,
  Effect.map(AccessLog.AccessLog, (log) =>
    AccessRepository.of({
      links: Links.make(log),
      sessions: Sessions.make(log),
      feed: Feed.make(log),
      // This store keeps no connect clients, authorization codes or credentials, and says so when a caller asks for them.
      ...unsupported
    }))
).pipe(Layer.provide(AccessLog.layer))
// #endregion layer
