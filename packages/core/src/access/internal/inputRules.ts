/**
 * What a subject and scopes have to be, in every service that is given some.
 */
import * as Input from "../../Input.ts"
import * as Schema from "effect/Schema"
import * as Text from "../../Text.ts"
import { AccessScope } from "../AccessScope.ts"

/** The names that the access feed has for others than people: actors, and who issued a connecting client's link. */
const reservedSubjects: ReadonlyArray<string> = ["operator", "system", "connect"]

const encoder = new TextEncoder()

/** How many bytes a subject may have as JSON, so that a token with it is not refused as too long. */
const maxBytes = 1_026

/** Says what is wrong with a subject, or nothing. */
export const subjectProblem = (subject: string): "empty" | "malformed" | "reserved" | undefined =>
  subject === ""
    ? "empty"
    : !Text.isLine(subject, 512) || encoder.encode(JSON.stringify(subject)).length > maxBytes
    ? "malformed"
    : reservedSubjects.includes(subject)
    ? "reserved"
    : undefined

/** Takes lists of scopes. */
export const scopesRule: Input.Rule = Input.rule(
  Schema.Array(AccessScope),
  "scopes of the form resource:action, such as runs:read"
)

/** Takes what names a subject to look for, whether or not there can be one. */
export const nameRule: Input.Rule = Input.rule(Text.line(512), "a line of up to 512 characters")

/** Takes subjects. */
export const subjectRule: Input.Rule = {
  is: (value) => typeof value === "string" && subjectProblem(value) === undefined,
  expected: "a line of up to 512 characters and 1,024 bytes, and not operator, system or connect"
}
