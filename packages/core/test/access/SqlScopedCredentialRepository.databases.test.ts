import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as ScopedCredentialRepositorySuite from "@sallyport/testing/ScopedCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  ScopedCredentialRepositorySuite.suite(
    name,
    SqlAccessRepository.layer.pipe(Layer.provide(layer))
  )
}
