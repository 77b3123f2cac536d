import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as Layer from "effect/Layer"
import { sqliteFile } from "../../sql/test/databases.ts"
import { conformance } from "./conformance.ts"

conformance("SQLite", Layer.orDie(Layer.provide(SqlDurableStreamRepository.layer, sqliteFile)))
