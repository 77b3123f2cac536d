import * as SqlAccessFeedRepository from "@sallyport/sql/SqlAccessFeedRepository"
import * as SqlBootstrapCredentialRepository from "@sallyport/sql/SqlBootstrapCredentialRepository"
import * as BootstrapCredentialRepositorySuite from "@sallyport/testing/BootstrapCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "./databases.ts"

for (const { layer, name } of databases) {
  BootstrapCredentialRepositorySuite.suite(
    name,
    Layer.mergeAll(SqlBootstrapCredentialRepository.layer, SqlAccessFeedRepository.layer).pipe(Layer.provide(layer))
  )
}
