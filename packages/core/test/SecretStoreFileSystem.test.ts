import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as SecretStore from "@sallyport/core/SecretStore"
import * as SecretStoreSuite from "@sallyport/testing/SecretStoreSuite"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"

const Platform = Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeCrypto.layer)

SecretStoreSuite.suite(
  "file system",
  Layer.unwrap(Effect.map(
    FileSystem.FileSystem.use((fs) => fs.makeTempDirectoryScoped({ prefix: "sallyport-secrets-" })),
    (directory) => SecretStore.layerFileSystem(`${directory}/state/secrets`)
  )).pipe(Layer.provide(Platform))
)
