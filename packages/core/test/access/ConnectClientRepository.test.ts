import * as Access from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as ConnectClientRepositorySuite from "@sallyport/testing/ConnectClientRepositorySuite"

ConnectClientRepositorySuite.suite(
  "memory",
  Access.layerMemory,
  { digest: NodeCrypto.layer, runs: 1_000 }
)
