import * as SqlRunEventRepository from "@sallyport/sql/SqlRunEventRepository"
import * as RunEventLogSuite from "@sallyport/testing/RunEventLogSuite"
import * as Layer from "effect/Layer"
import { databases } from "./databases.ts"

for (const { layer, name } of databases) {
  RunEventLogSuite.suite(name, Layer.provide(SqlRunEventRepository.layer, layer))
}
