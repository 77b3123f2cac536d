/**
 * Provides the access repositories on a `KeyValueStore`, as one layer.
 */
import type { RepositoryError } from "@sallyport/core"
import type { AccessFeedRepository } from "@sallyport/core/access/AccessFeedRepository"
import type { BootstrapCredentialRepository } from "@sallyport/core/access/BootstrapCredentialRepository"
import type { SessionCredentialRepository } from "@sallyport/core/access/SessionCredentialRepository"
import { Layer } from "effect"
import type { KeyValueStore } from "effect/persistence"
import * as AccessLog from "./AccessLog.ts"
import * as KeyValueAccessFeedRepository from "./KeyValueAccessFeedRepository.ts"
import * as KeyValueBootstrapCredentialRepository from "./KeyValueBootstrapCredentialRepository.ts"
import * as KeyValueSessionCredentialRepository from "./KeyValueSessionCredentialRepository.ts"

// #region layer
/** Provides the access repositories for one process, which must be the only writer of the store. */
export const layer: Layer.Layer<
  AccessFeedRepository | BootstrapCredentialRepository | SessionCredentialRepository,
  RepositoryError.RepositoryError,
  KeyValueStore.KeyValueStore
> = Layer.mergeAll(
  KeyValueAccessFeedRepository.layer,
  KeyValueBootstrapCredentialRepository.layer,
  KeyValueSessionCredentialRepository.layer
).pipe(Layer.provide(AccessLog.layer))
// #endregion layer
