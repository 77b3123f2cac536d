/**
 * The one way in which a repository of access state fails. Everything else that it has to say is an answer.
 */
import * as Schema from "effect/Schema"

/**
 * Reports that the store of the access state could not be read or written; `operation` names the step that failed.
 *
 * @category errors
 * @since 0.1.0
 */
export class RepositoryError extends Schema.TaggedError<RepositoryError>()("RepositoryError", {
  operation: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `The access store failed in ${this.operation}; nothing was changed, and the call can be made again`
  }
}
