import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as SessionCredentialRepositorySuite from "@sallyport/testing/SessionCredentialRepositorySuite"
import { databases, withTables } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  SessionCredentialRepositorySuite.suite(
    name,
    withTables(layer, SqlAccessRepository.layer)
  )
}
