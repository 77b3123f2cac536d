import { conformance } from "./conformance.ts"
import { memory } from "./support.ts"

conformance("memory", memory)
