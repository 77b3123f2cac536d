import { postgresSerializable } from "../../../test-support/databases.ts"
import { conformance } from "./conformance.ts"
import { sql } from "./support.ts"

conformance("PostgreSQL at serializable", sql(postgresSerializable))
