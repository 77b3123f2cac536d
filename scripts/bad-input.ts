/** Writes the tables of docs/dpop-and-tokens.md from those that the tests are made of. A test fails if they differ. */
import { begin, end, markdown } from "../packages/http/test/badInput.ts"
import { writeBetween } from "./writeBetween.ts"

await writeBetween("dpop-and-tokens.md", begin, end, markdown())
