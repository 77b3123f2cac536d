// #region suites
import { NodeServices } from "@effect/platform-node"
import {
  AccessFeedRepositorySuite,
  BootstrapCredentialRepositorySuite,
  SessionCredentialRepositorySuite
} from "@sallyport/testing"
import { Effect, FileSystem, Layer } from "effect"
import { KeyValueStore } from "effect/persistence"
import * as KeyValueRepositories from "../src/KeyValueRepositories.ts"

const inMemory = Layer.provide(KeyValueRepositories.layer, KeyValueStore.layerMemory)

const inFiles = Layer.unwrap(Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "keyvalue-adapter-" })
  return Layer.provide(KeyValueRepositories.layer, KeyValueStore.layerFileSystem(directory))
})).pipe(Layer.provide(NodeServices.layer))

for (const [name, layer] of [["KeyValueStore in memory", inMemory], ["KeyValueStore in files", inFiles]] as const) {
  BootstrapCredentialRepositorySuite.suite(name, layer)
  SessionCredentialRepositorySuite.suite(name, layer)
  AccessFeedRepositorySuite.suite(name, layer)
}
// #endregion suites
