import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as RunEventLogSuite from "@sallyport/testing/RunEventLogSuite"
import { databases, withTables } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  RunEventLogSuite.suite(name, withTables(layer, SqlRunEventRepository.layer))
}
