import * as PgRepositories from "@sallyport/pg/PgRepositories"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as AccessFeedSuite from "@sallyport/testing/AccessFeedSuite"
import * as Layer from "effect/Layer"
import { databases, postgres, withTables } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  AccessFeedSuite.suite(name, withTables(layer, SqlRepositories.layer))
}

AccessFeedSuite.suite("PostgreSQL with notifications", Layer.fresh(Layer.provide(PgRepositories.layer, postgres)))
