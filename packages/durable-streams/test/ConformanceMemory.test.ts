import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import { conformance } from "./conformance.ts"

conformance("memory", DurableStreamRepository.layerMemory)
