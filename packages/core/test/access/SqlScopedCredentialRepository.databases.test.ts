import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as ScopedCredentialRepositorySuite from "@sallyport/testing/ScopedCredentialRepositorySuite"
import { databases, withTables } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  ScopedCredentialRepositorySuite.suite(
    name,
    withTables(layer, SqlAccessRepository.layer)
  )
}
