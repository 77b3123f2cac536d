/**
 * Every repository of a backend in memory, as one layer: what a test or a throw-away server puts where production has a
 * database. A relay has two more, `RelayEnvironmentRepository` and `RelayProofRepository`, with layers of their own.
 */
import * as Layer from "effect/Layer"
import * as AccessFeedRepository from "./access/AccessFeedRepository.ts"
import * as BootstrapCredentialRepository from "./access/BootstrapCredentialRepository.ts"
import * as ConnectClientRepository from "./access/ConnectClientRepository.ts"
import * as ReplayRepository from "./access/ReplayRepository.ts"
import * as RunEventRepository from "./runs/RunEventRepository.ts"
import * as ScopedCredentialRepository from "./access/ScopedCredentialRepository.ts"
import * as SessionCredentialRepository from "./access/SessionCredentialRepository.ts"

/**
 * Names the ports that a persistence fills.
 *
 * @category models
 * @since 0.1.0
 */
export type Repositories =
  | AccessFeedRepository.AccessFeedRepository
  | BootstrapCredentialRepository.BootstrapCredentialRepository
  | ConnectClientRepository.ConnectClientRepository
  | SessionCredentialRepository.SessionCredentialRepository
  | ScopedCredentialRepository.ScopedCredentialRepository
  | ReplayRepository.ReplayRepository
  | RunEventRepository.RunEventRepository

/**
 * Provides all repositories in memory; what they hold ends with the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Repositories> = Layer.mergeAll(
  AccessFeedRepository.layerMemory,
  BootstrapCredentialRepository.layerMemory,
  ConnectClientRepository.layerMemory,
  SessionCredentialRepository.layerMemory,
  ScopedCredentialRepository.layerMemory,
  ReplayRepository.layerMemory,
  RunEventRepository.layerMemory
)
