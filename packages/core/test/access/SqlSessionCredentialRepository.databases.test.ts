import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as SessionCredentialRepositorySuite from "@sallyport/testing/SessionCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  SessionCredentialRepositorySuite.suite(
    name,
    SqlAccessRepository.layer.pipe(Layer.provide(layer))
  )
}
