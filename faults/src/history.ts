/**
 * Describes what clients saw and what the tables hold: all that the judge decides by. Times are milliseconds of one clock.
 */

/** Says what one client saw, or what the harness did. */
export type Observation =
  | {
    readonly _tag: "Answer"
    readonly operation: string
    readonly node: number
    readonly status: number
    /** Whether the body is one of the API's tagged errors; only of interest if the status is an error's. */
    readonly isTyped: boolean
    readonly text: string
  }
  /** No answer came within the deadline, in which the node was not stopped. */
  | { readonly _tag: "Hung"; readonly operation: string; readonly node: number; readonly millis: number }
  | { readonly _tag: "Issued"; readonly linkId: string; readonly uses: number }
  | { readonly _tag: "Redeemed"; readonly linkId: string; readonly sessionId: string; readonly attempt: string }
  | { readonly _tag: "RevocationSent"; readonly sessionId: string; readonly at: number }
  | { readonly _tag: "Revoked"; readonly sessionId: string; readonly node: number; readonly at: number }
  | {
    readonly _tag: "Used"
    readonly sessionId: string
    readonly node: number
    readonly sentAt: number
    readonly answeredAt: number
    readonly isAccepted: boolean
  }
  /** A request was refused, so what it names must not be stored. */
  | { readonly _tag: "Refused"; readonly what: "link" | "run"; readonly key: string }
  | { readonly _tag: "RefreshRefused"; readonly sessionId: string; readonly at: number; readonly text: string }
  | {
    readonly _tag: "RunStarted"
    readonly runId: string
    readonly key: string
    readonly isNew: boolean
    readonly to: number
  }
  /** A connection to a run's events began after this cursor. */
  | { readonly _tag: "Followed"; readonly connection: number; readonly runId: string; readonly after: number }
  | {
    readonly _tag: "Event"
    readonly connection: number
    readonly runId: string
    /** Absent for an end that was made from the run's row. */
    readonly seq: number | undefined
    readonly kind: "data" | "end"
    readonly data: string
  }
  /** A connection to the access feed began after this revision, or with a snapshot. */
  | { readonly _tag: "FeedFollowed"; readonly connection: number; readonly after: number | undefined }
  | {
    readonly _tag: "FeedEvent"
    readonly connection: number
    readonly revision: number
    readonly type: string
  }
  /** A credential was set or removed for sure; or an attempt to do so was sent. One client writes each. */
  | { readonly _tag: "CredentialSent"; readonly key: string }
  | { readonly _tag: "CredentialIs"; readonly key: string; readonly isSet: boolean }
  | { readonly _tag: "CredentialSeen"; readonly key: string; readonly isSet: boolean }
  /** An append to a stream was acknowledged. */
  | { readonly _tag: "Appended"; readonly stream: string; readonly value: number }
  /** A stream was read from its beginning to its end. */
  | { readonly _tag: "StreamRead"; readonly stream: string; readonly values: ReadonlyArray<number> }
  | { readonly _tag: "Ready"; readonly node: number; readonly after: string; readonly millis: number }
  | {
    readonly _tag: "Ended"
    readonly node: number
    /** What ended it; `none` if it ended by itself. */
    readonly by: "SIGKILL" | "SIGTERM" | "none"
    readonly code: number | null
    readonly millis: number
    readonly stderr: string
  }
  /** What a scenario of its own has found, such as a start on a truncated secret. */
  | { readonly _tag: "Checked"; readonly scenario: string; readonly problem: string | undefined }

/** Holds what is stored when all is over. */
export interface Tables {
  readonly links: ReadonlyArray<{ readonly id: string; readonly label: string | null }>
  readonly sessions: ReadonlyArray<{ readonly id: string; readonly linkId: string | null; readonly isLive: boolean }>
  readonly runs: ReadonlyArray<{ readonly runId: string; readonly key: string; readonly status: string }>
  readonly events: ReadonlyArray<
    { readonly runId: string; readonly seq: number; readonly kind: string; readonly data: string }
  >
  readonly feed: ReadonlyArray<{ readonly revision: number; readonly type: string; readonly payload: string }>
}

/** Holds all that was observed, in the order in which it happened. */
export interface History {
  readonly observations: ReadonlyArray<Observation>
  readonly tables: Tables
}
