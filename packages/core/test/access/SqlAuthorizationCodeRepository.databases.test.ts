import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as AuthorizationCodeRepositorySuite from "@sallyport/testing/AuthorizationCodeRepositorySuite"
import { databases, withTables } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  AuthorizationCodeRepositorySuite.suite(name, withTables(layer, SqlAccessRepository.layer))
}
