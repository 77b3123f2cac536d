import { sqliteFile } from "../../../test-support/databases.ts"
import { conformance } from "./conformance.ts"
import { sql } from "./support.ts"

conformance("SQLite", sql(sqliteFile))
