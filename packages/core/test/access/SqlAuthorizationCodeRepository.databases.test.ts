import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as AuthorizationCodeRepositorySuite from "@sallyport/testing/AuthorizationCodeRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  AuthorizationCodeRepositorySuite.suite(name, SqlAccessRepository.layer.pipe(Layer.provide(layer)))
}
