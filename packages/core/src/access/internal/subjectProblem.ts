import * as Text from "../../Text.ts"

/** The names that the access feed has for others than people: actors, and who issued a connecting client's link. */
const reservedSubjects: ReadonlyArray<string> = ["operator", "system", "connect"]

/** Says what is wrong with a subject, or nothing. */
export const subjectProblem = (subject: string): "empty" | "malformed" | "reserved" | undefined =>
  subject === ""
    ? "empty"
    : !Text.isLine(subject, 512)
    ? "malformed"
    : reservedSubjects.includes(subject)
    ? "reserved"
    : undefined
