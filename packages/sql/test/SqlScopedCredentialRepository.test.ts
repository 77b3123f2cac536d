import * as SqlAccessFeedRepository from "@sallyport/sql/SqlAccessFeedRepository"
import * as SqlScopedCredentialRepository from "@sallyport/sql/SqlScopedCredentialRepository"
import * as ScopedCredentialRepositorySuite from "@sallyport/testing/ScopedCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "./databases.ts"

for (const { layer, name } of databases) {
  ScopedCredentialRepositorySuite.suite(
    name,
    Layer.mergeAll(SqlScopedCredentialRepository.layer, SqlAccessFeedRepository.layer).pipe(Layer.provide(layer))
  )
}
