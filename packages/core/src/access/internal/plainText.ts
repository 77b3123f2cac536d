const notPlain = /[\p{Cc}\p{Cs}]/u

/**
 * Tells whether a text can be stored anywhere and shown on a line: no control characters, NUL among them, which PostgreSQL
 * doesn't take, and no lone surrogates, which are no UTF-8.
 */
export const isPlainText = (text: string): boolean => !notPlain.test(text)

/** The names that the access feed has for others than people: actors, and who issued a connecting client's link. */
const reservedSubjects: ReadonlyArray<string> = ["operator", "system", "connect"]

/** Says what is wrong with a subject, or nothing. */
export const subjectProblem = (subject: string): "empty" | "malformed" | "reserved" | undefined =>
  subject === ""
    ? "empty"
    : !isPlainText(subject)
    ? "malformed"
    : reservedSubjects.includes(subject)
    ? "reserved"
    : undefined
