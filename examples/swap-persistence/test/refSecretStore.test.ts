// #region suite
import { NodeCrypto } from "@effect/platform-node"
import { SecretStoreSuite } from "@sallyport/testing"
import { Layer } from "effect"
import * as RefSecretStore from "../src/RefSecretStore.ts"

SecretStoreSuite.suite("on a Ref", Layer.provide(RefSecretStore.layer, NodeCrypto.layer))
// #endregion suite
