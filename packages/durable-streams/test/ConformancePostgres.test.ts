import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as Layer from "effect/Layer"
import { postgres } from "../../sql/test/databases.ts"
import { conformance } from "./conformance.ts"

conformance("PostgreSQL", Layer.orDie(Layer.provide(SqlDurableStreamRepository.layer, postgres)))
