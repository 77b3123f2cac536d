/**
 * The one error of every repository. Everything else that a repository has to say is an answer.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * Lists why a repository fails: the store is out of reach or at its limits; it did not answer in time; it kept refusing the
 * step because of others that ran at the same time; a value that has to be unique exists already; the store is damaged, or
 * a row is not of the form that this version writes; the store is of a kind that Sallyport does not know; or anything else,
 * which is a fault.
 *
 * @category models
 * @since 0.1.0
 */
export const RepositoryFailure = Schema.Literals([
  "Unavailable",
  "TimedOut",
  "Contended",
  "Conflict",
  "Corrupt",
  "Unsupported",
  "Failed"
])
/**
 * @see {@link RepositoryFailure}
 * @category models
 * @since 0.1.0
 */
export type RepositoryFailure = typeof RepositoryFailure.Type

const sentences: Readonly<Record<RepositoryFailure, string>> = {
  Unavailable: "the store is not available",
  TimedOut: "the store did not answer in time",
  Contended: "other steps at the same time kept getting in the way",
  Conflict: "a value that has to be unique exists already",
  Corrupt: "it is damaged, or a row is not of the form that this version of Sallyport writes",
  Unsupported: "the store is of a kind that Sallyport does not support",
  Failed: "the store refused a statement; see the cause"
}

const retryable: ReadonlySet<RepositoryFailure> = new Set(["Unavailable", "TimedOut", "Contended"])

/**
 * Reports that a store could not be read or written; `operation` names the step.
 *
 * **Details**
 *
 * `outcome` is `unchanged` if the step is known to have changed nothing, and `unknown` if the store may have kept it: the
 * answer to its commit, or to a single statement, never came. A retry of an operation that names what it writes by an id or
 * a key is safe in both cases.
 *
 * @category errors
 * @since 0.1.0
 */
export class RepositoryError extends Schema.TaggedError<RepositoryError>()("RepositoryError", {
  operation: Schema.String,
  reason: RepositoryFailure,
  outcome: Schema.Literals(["unchanged", "unknown"]),
  cause: Schema.Defect()
}) {
  /** Tells whether the same call may succeed later. */
  get isRetryable(): boolean {
    return retryable.has(this.reason)
  }
  override get message(): string {
    const outcome = this.outcome === "unchanged" ? "Nothing was changed" : "Whether the change was made is not known"
    return `The store failed in ${this.operation}: ${sentences[this.reason]}. ${outcome}${
      this.isRetryable ? "; try again" : ""
    }`
  }
}

/**
 * Creates the error of a step that stores a value which has to be unique and exists already.
 *
 * @category constructors
 * @since 0.1.0
 */
export const conflict = (operation: string, message: string): RepositoryError =>
  new RepositoryError({ operation, reason: "Conflict", outcome: "unchanged", cause: new Error(message) })
