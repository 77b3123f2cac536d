import * as SqlAccessFeedRepository from "@sallyport/core/access/SqlAccessFeedRepository"
import * as SqlBootstrapCredentialRepository from "@sallyport/core/access/SqlBootstrapCredentialRepository"
import * as BootstrapCredentialRepositorySuite from "@sallyport/testing/BootstrapCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  BootstrapCredentialRepositorySuite.suite(
    name,
    Layer.mergeAll(SqlBootstrapCredentialRepository.layer, SqlAccessFeedRepository.layer).pipe(Layer.provide(layer))
  )
}
