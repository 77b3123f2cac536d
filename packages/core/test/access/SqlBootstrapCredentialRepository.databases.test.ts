import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as BootstrapCredentialRepositorySuite from "@sallyport/testing/BootstrapCredentialRepositorySuite"
import { databases, withTables } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  BootstrapCredentialRepositorySuite.suite(
    name,
    withTables(layer, SqlAccessRepository.layer)
  )
}
