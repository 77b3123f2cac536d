import * as WireError from "@sallyport/contract/WireError"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as HttpServerError from "effect/http/HttpServerError"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"

/**
 * Returns one sentence for a person: the message of the error that stopped the program. A defect, which is a fault of
 * this program, keeps its stack. Returns nothing if there is nothing to add: for a program that was stopped, and for a
 * usage error, which is already shown with the help.
 */
export const describeFailure = (cause: Cause.Cause<unknown>): string | undefined => {
  if (Cause.hasInterruptsOnly(cause)) return undefined
  const error = cause.reasons.find(Cause.isFailReason)?.error
  if (CliError.isCliError(error)) return error._tag === "ShowHelp" ? undefined : error.message
  if (error instanceof WireError.Unauthorized) {
    return "The server does not accept the token; issue another with \"sallyport sessions issue\""
  }
  if (Schema.isSchemaError(error)) return describeIssues(error.issue)
  if (error instanceof HttpServerError.ServeError) return describeListening(error.cause)
  return Predicate.hasProperty(error, "message") && error.message !== "" ? String(error.message) : Cause.pretty(cause)
}

const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1()

/** Says in one line which values do not have the form that is taken. */
const describeIssues = (issue: SchemaIssue.Issue): string =>
  issuesOf(issue).issues.map(({ message, path = [] }) =>
    [...path.map((key) => typeof key === "object" ? key.key : key), message].map(String).join(": ")
  ).join("; ")

const textOf = (error: unknown, property: string): string =>
  Predicate.hasProperty(error, property) ? String(error[property]) : ""

const describeListening = (cause: unknown): string => {
  switch (textOf(cause, "code")) {
    case "EADDRINUSE":
      return `Port ${
        textOf(cause, "port")
      } is in use; stop the program that listens there, or choose another port with --port`
    case "EACCES":
      return `This user may not listen on port ${textOf(cause, "port")}; choose a port above 1023 with --port`
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `${textOf(cause, "address") || textOf(cause, "hostname")} is no address of this machine; ` +
        `choose another address with --host`
    default:
      return `The server cannot listen: ${textOf(cause, "message") || String(cause)}; see --host and --port`
  }
}
