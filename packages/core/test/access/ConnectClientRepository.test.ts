import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as AccessFeedRepository from "@sallyport/core/access/AccessFeedRepository"
import * as BootstrapCredentialRepository from "@sallyport/core/access/BootstrapCredentialRepository"
import * as ConnectClientRepository from "@sallyport/core/access/ConnectClientRepository"
import * as SessionCredentialRepository from "@sallyport/core/access/SessionCredentialRepository"
import * as ConnectClientRepositorySuite from "@sallyport/testing/ConnectClientRepositorySuite"
import * as Layer from "effect/Layer"

ConnectClientRepositorySuite.suite(
  "memory",
  Layer.mergeAll(
    ConnectClientRepository.layerMemory,
    SessionCredentialRepository.layerMemory,
    BootstrapCredentialRepository.layerMemory,
    AccessFeedRepository.layerMemory
  ),
  { digest: NodeCrypto.layer, runs: 1_000 }
)
