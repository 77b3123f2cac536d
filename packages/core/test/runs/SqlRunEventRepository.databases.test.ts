import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as RunEventRepositorySuite from "@sallyport/testing/RunEventRepositorySuite"
import * as Layer from "effect/Layer"
import { databases } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  RunEventRepositorySuite.suite(name, Layer.provide(SqlRunEventRepository.layer, layer))
}
