import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"

/**
 * Returns one sentence for a person: the message of the error that stopped the program. A defect, which is ours, keeps its
 * stack.
 */
export const describeFailure = (cause: Cause.Cause<unknown>): string => {
  const error = cause.reasons.find(Cause.isFailReason)?.error
  if (error === undefined) return Cause.pretty(cause)
  if (isAddressInUse(error)) return "The port is in use; stop what listens there, or choose another one with --port"
  return Predicate.hasProperty(error, "message") ? String(error.message) : Cause.pretty(cause)
}

const isAddressInUse = (error: unknown): boolean =>
  Predicate.hasProperty(error, "_tag") && error._tag === "ServeError" && Predicate.hasProperty(error, "cause") &&
  Predicate.hasProperty(error.cause, "code") && error.cause.code === "EADDRINUSE"
