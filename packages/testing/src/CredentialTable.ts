/**
 * Who gets and changes which credential: every role, with and without an active organisation, for each operation, wherever
 * the credential is, and whether the organisation can be looked up. The tests and the documentation are made of it.
 */

/**
 * The callers of the table: the roles of an active organisation, one that is not known, and a member of none.
 *
 * @category constants
 * @since 0.1.0
 */
export const callers = ["owner", "admin", "member", "auditor", "no active org"] as const
/**
 * @see {@link callers}
 *
 * @category models
 * @since 0.1.0
 */
export type Caller = typeof callers[number]

/**
 * Where a row is before the operation: the caller's own, the organisation's, both, or none.
 *
 * @category constants
 * @since 0.1.0
 */
export const rowsBefore = ["nowhere", "user", "org", "user + org"] as const
/**
 * @see {@link rowsBefore}
 *
 * @category models
 * @since 0.1.0
 */
export type Rows = typeof rowsBefore[number]

/**
 * What an operation answers: the scope that it read or changed, `unset`, or the status and reason of an error.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer =
  | "user"
  | "org"
  | "unset"
  | "403 NotPermitted"
  | "404 NotSet"
  | "409 NoActiveOrg"
  | "503 OrgLookupFailed"

/**
 * The operations of the table.
 *
 * @category constants
 * @since 0.1.0
 */
export const operations = [
  "resolve",
  "status",
  "write",
  "write user",
  "write org",
  "remove",
  "remove user",
  "remove org"
] as const
/**
 * @see {@link operations}
 *
 * @category models
 * @since 0.1.0
 */
export type Operation = typeof operations[number]

/**
 * One line of the table.
 *
 * @category models
 * @since 0.1.0
 */
export interface Case {
  readonly operation: Operation
  readonly caller: Caller
  readonly before: Rows
  readonly lookUp: "answers" | "fails"
  readonly answer: Answer
  /** Where rows are afterwards. */
  readonly after: Rows
}

type Cell = readonly [answer: Answer, after: Rows]

const kept = (...answers: readonly [Answer, Answer, Answer, Answer]): ReadonlyArray<Cell> =>
  answers.map((answer, index): Cell => [answer, rowsBefore[index] ?? "nowhere"])

const read = { manager: kept("unset", "user", "org", "user"), member: kept("unset", "user", "org", "user") }
const refused = kept("403 NotPermitted", "403 NotPermitted", "403 NotPermitted", "403 NotPermitted")
const noOrg = kept("409 NoActiveOrg", "409 NoActiveOrg", "409 NoActiveOrg", "409 NoActiveOrg")

const writtenByUser: ReadonlyArray<Cell> = [
  ["user", "user"],
  ["user", "user"],
  ["user", "user + org"],
  ["user", "user + org"]
]
const removedByUser: ReadonlyArray<Cell> = [
  ["404 NotSet", "nowhere"],
  ["user", "nowhere"],
  ["404 NotSet", "org"],
  ["user", "org"]
]

/** For each operation: the cells of owners and admins, of every other role, and without an active organisation. */
const cells: Record<Operation, {
  readonly manager: ReadonlyArray<Cell>
  readonly member: ReadonlyArray<Cell>
  readonly alone: ReadonlyArray<Cell>
}> = {
  resolve: { ...read, alone: kept("unset", "user", "unset", "user") },
  status: { ...read, alone: kept("unset", "user", "unset", "user") },
  write: {
    manager: [["org", "org"], ["org", "org"], ["org", "org"], ["org", "org"]],
    member: writtenByUser,
    alone: writtenByUser
  },
  "write user": { manager: writtenByUser, member: writtenByUser, alone: writtenByUser },
  "write org": {
    manager: [["org", "org"], ["org", "user + org"], ["org", "org"], ["org", "user + org"]],
    member: refused,
    alone: noOrg
  },
  remove: {
    manager: [["404 NotSet", "nowhere"], ["user", "nowhere"], ["org", "nowhere"], ["user", "org"]],
    member: [["404 NotSet", "nowhere"], ["user", "nowhere"], ["403 NotPermitted", "org"], ["user", "org"]],
    alone: removedByUser
  },
  "remove user": { manager: removedByUser, member: removedByUser, alone: removedByUser },
  "remove org": {
    manager: [["404 NotSet", "nowhere"], ["404 NotSet", "user"], ["org", "nowhere"], ["org", "user"]],
    member: refused,
    alone: noOrg
  }
}

const classOf = (caller: Caller) =>
  caller === "owner" || caller === "admin" ? "manager" : caller === "no active org" ? "alone" : "member"

/**
 * Every line of the table.
 *
 * @category constants
 * @since 0.1.0
 */
export const table: ReadonlyArray<Case> = operations.flatMap((operation) =>
  callers.flatMap((caller) =>
    rowsBefore.flatMap((before, index): ReadonlyArray<Case> => {
      const [answer, after] = cells[operation][classOf(caller)][index] ?? ["unset", "nowhere"]
      return [
        { operation, caller, before, lookUp: "answers", answer, after },
        { operation, caller, before, lookUp: "fails", answer: "503 OrgLookupFailed", after: before }
      ]
    })
  )
)

const cellText = ({ after, answer, before }: Case) => after === before ? answer : `${answer} → ${after}`

/**
 * Renders the table as Markdown: one table for each operation.
 *
 * @category converting
 * @since 0.1.0
 */
export const markdown = (): string =>
  operations.map((operation) => {
    const lines = callers.map((caller) => {
      const ofCaller = table.filter((line) => line.operation === operation && line.caller === caller)
      const answered = ofCaller.filter(({ lookUp }) => lookUp === "answers").map(cellText)
      const failed = new Set(ofCaller.filter(({ lookUp }) => lookUp === "fails").map(cellText))
      return `| ${caller} | ${[...answered, ...failed].join(" | ")} |`
    })
    return [
      `**${operation}**`,
      "",
      `| caller | ${rowsBefore.map((before) => `row: ${before}`).join(" | ")} | look-up fails |`,
      `| --- | ${rowsBefore.map(() => "---").join(" | ")} | --- |`,
      ...lines
    ].join("\n")
  }).join("\n\n")
