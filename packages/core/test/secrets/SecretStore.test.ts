import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SecretStoreSuite from "@sallyport/testing/SecretStoreSuite"
import * as Layer from "effect/Layer"

SecretStoreSuite.suite("memory", Layer.provide(SecretStore.layerMemory, NodeCrypto.layer))
