import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, it } from "@effect/vitest"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SecretStoreSuite from "@sallyport/testing/SecretStoreSuite"
import * as Layer from "effect/Layer"
import { leavingNothing } from "./leavingNothing.ts"

SecretStoreSuite.suite("memory", Layer.provide(leavingNothing(SecretStore.layerMemory), NodeCrypto.layer))

it("an error is printed under its tag, and names a secret only where one is concerned", () => {
  const cause = new Error("disk full")
  const ofOne = new SecretStore.StorageFailure({ operation: "get", secretName: "api-key", cause })
  assert.strictEqual(String(ofOne), "StorageFailure: SecretStore.get failed on the secret \"api-key\": disk full")
  const ofAll = new SecretStore.StorageFailure({ operation: "list", cause })
  assert.strictEqual(String(ofAll), "StorageFailure: SecretStore.list failed on the secret store: disk full")
  assert.match(String(new SecretStore.InvalidName({ secretName: "A B" })), /^InvalidName: "A B" is not a secret name/)
})
