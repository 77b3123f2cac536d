import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as BootstrapCredentialRepositorySuite from "@sallyport/testing/BootstrapCredentialRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  BootstrapCredentialRepositorySuite.suite(
    name,
    SqlAccessRepository.layer.pipe(Layer.provide(layer))
  )
}
