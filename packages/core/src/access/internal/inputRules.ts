/**
 * What a subject and scopes have to be, in every service that is given some.
 */
import * as Input from "../../Input.ts"
import * as Schema from "effect/Schema"
import * as Text from "../../Text.ts"
import { AccessScope } from "../AccessScope.ts"
import { issuerPrefix } from "../Session.ts"

/** The names that the access feed has for others than people: actors, and who issued a connecting client's link. */
const reservedSubjects: ReadonlyArray<string> = ["operator", "system", "connect"]

/**
 * How long a subject may be: as long as a run's owner, and as a subject of OpenID Connect. A token with one is never too
 * long.
 */
const maxLength = 255

/** Says what is wrong with a subject, or nothing. */
export const subjectProblem = (subject: string): "empty" | "malformed" | "reserved" | undefined =>
  subject === ""
    ? "empty"
    : !Text.isLine(subject, maxLength) || !Text.isKey(subject, maxLength)
    ? "malformed"
    : reservedSubjects.includes(subject) || subject.startsWith(issuerPrefix)
    ? "reserved"
    : undefined

/** Takes lists of scopes. */
export const scopesRule: Input.Rule = Input.rule(
  Schema.Array(AccessScope),
  "scopes of the form resource:action, such as runs:read"
)

/** Takes what names a subject to look for, whether or not there can be one. */
export const nameRule: Input.Rule = Input.rule(Text.line(maxLength), `a line of up to ${maxLength} characters`)

/** Takes subjects. */
export const subjectRule: Input.Rule = {
  is: (value) => typeof value === "string" && subjectProblem(value) === undefined,
  expected:
    `a line of up to ${maxLength} characters, not operator, system or connect, and not with ${issuerPrefix} at its beginning`
}
