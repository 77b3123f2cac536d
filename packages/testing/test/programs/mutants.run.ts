/** Declares the suites on every adapter of `mutants.ts`, for a run of its own that is expected to fail. */
import { mutants } from "./mutants.ts"

for (const mutant of mutants) mutant.declare()
