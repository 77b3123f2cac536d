import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as AccessFeedRepository from "@sallyport/core/access/AccessFeedRepository"
import * as ScopedCredentialRepository from "@sallyport/core/access/ScopedCredentialRepository"
import * as CredentialScopeResolverSuite from "@sallyport/testing/CredentialScopeResolverSuite"
import * as Layer from "effect/Layer"

CredentialScopeResolverSuite.suite(
  "memory",
  Layer.mergeAll(ScopedCredentialRepository.layerMemory, AccessFeedRepository.layerMemory, NodeCrypto.layer)
)
