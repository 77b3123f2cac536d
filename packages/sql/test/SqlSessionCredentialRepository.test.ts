import * as SqlAccessFeedRepository from "@sallyport/sql/SqlAccessFeedRepository"
import * as SqlSessionCredentialRepository from "@sallyport/sql/SqlSessionCredentialRepository"
import * as SessionCredentialRepositorySuite from "@sallyport/testing/SessionCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "./databases.ts"

for (const { layer, name } of databases) {
  SessionCredentialRepositorySuite.suite(
    name,
    Layer.mergeAll(SqlSessionCredentialRepository.layer, SqlAccessFeedRepository.layer).pipe(Layer.provide(layer))
  )
}
