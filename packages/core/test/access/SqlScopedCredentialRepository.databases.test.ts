import * as SqlAccessFeedRepository from "@sallyport/core/access/SqlAccessFeedRepository"
import * as SqlScopedCredentialRepository from "@sallyport/core/access/SqlScopedCredentialRepository"
import * as ScopedCredentialRepositorySuite from "@sallyport/testing/ScopedCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  ScopedCredentialRepositorySuite.suite(
    name,
    Layer.mergeAll(SqlScopedCredentialRepository.layer, SqlAccessFeedRepository.layer).pipe(Layer.provide(layer))
  )
}
