import { conformance } from "./conformance.ts"
import { memory } from "./support.ts"

conformance("memory, through streams", memory, false)
