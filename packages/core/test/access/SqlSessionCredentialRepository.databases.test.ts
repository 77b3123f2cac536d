import * as SqlAccessFeedRepository from "@sallyport/core/access/SqlAccessFeedRepository"
import * as SqlSessionCredentialRepository from "@sallyport/core/access/SqlSessionCredentialRepository"
import * as SessionCredentialRepositorySuite from "@sallyport/testing/SessionCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  SessionCredentialRepositorySuite.suite(
    name,
    Layer.mergeAll(SqlSessionCredentialRepository.layer, SqlAccessFeedRepository.layer).pipe(Layer.provide(layer))
  )
}
