/**
 * Lists the exit codes of `sallyport`, so that a script branches on a number and never on text.
 */
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as Struct from "effect/Struct"

/**
 * Lists the exit codes. 0 is success, and 130 and 143 a command that was told twice to stop.
 *
 * @category constants
 * @since 0.1.0
 */
export const exitCodes = {
  /** Any other failure: the sentence on standard error says which. */
  Failed: 1,
  /** The arguments are wrong, or lack a subcommand; nothing was done. */
  Usage: 2,
  /** There is no such session, link, client, run, credential or secret. */
  NotFound: 3,
  /** The name fits several clients; nothing was changed. */
  Ambiguous: 4,
  /** The request, or the cursor, has expired. */
  Expired: 5,
  /** The client has asked again since; nothing was changed. */
  Changed: 6,
  /** What is stored cannot be read, such as a secret under another key. */
  Unreadable: 7,
  /** The store or the server cannot be reached now; try again later. */
  Unavailable: 8,
  /** This backend is linked to no relay. */
  NotLinked: 9,
  /** The change was made here, and the relay could not be told. */
  RelayNotTold: 10,
  /** No backend has kept state there; nothing was created. */
  NoState: 11,
  /** The caller may not do this. */
  NotAllowed: 12,
  /** The provider does not accept the credential, or could not be asked. */
  NotValid: 13,
  /** The question was answered with no, or could not be asked and `--yes` was not given; nothing was changed. */
  NotConfirmed: 14,
  /** A value does not have the form that is taken. */
  InvalidInput: 15,
  /** The server does not accept the token. */
  SignedOut: 16,
  /** The present state does not allow it, such as a thread with a running run. */
  Conflict: 17,
  /** `doctor` or `secrets verify` has found a fault. */
  Unhealthy: 18
} as const

/**
 * Names a failure by its exit code.
 *
 * @category models
 * @since 0.1.0
 */
export type ExitCode = keyof typeof exitCodes

/**
 * Ends a command with a sentence for a person, and an exit code for a script.
 *
 * @category errors
 * @since 0.1.0
 */
export class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", {
  code: Schema.Literals(Struct.keys(exitCodes)),
  message: Schema.String
}) {
  override get [Runtime.errorExitCode]() {
    return exitCodes[this.code]
  }
}
