import * as Access from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as CredentialScopeResolverSuite from "@sallyport/testing/CredentialScopeResolverSuite"
import * as Layer from "effect/Layer"

CredentialScopeResolverSuite.suite(
  "memory",
  Layer.mergeAll(Access.layerMemory, NodeCrypto.layer)
)
