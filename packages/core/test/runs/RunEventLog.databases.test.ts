import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as RunEventLogSuite from "@sallyport/testing/RunEventLogSuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  RunEventLogSuite.suite(name, Layer.provide(SqlRunEventRepository.layer, layer))
}
