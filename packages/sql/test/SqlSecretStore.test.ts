import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as SqlSecretStore from "@sallyport/sql/SqlSecretStore"
import * as SecretStoreSuite from "@sallyport/testing/SecretStoreSuite"
import * as Layer from "effect/Layer"
import { databases } from "./databases.ts"

for (const { layer, name } of databases) {
  SecretStoreSuite.suite(
    name,
    SqlSecretStore.layer.pipe(Layer.provide([layer, NodeCrypto.layer]))
  )
}
