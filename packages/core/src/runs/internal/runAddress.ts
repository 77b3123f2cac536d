/**
 * What a run is asked for by, checked before anything is stored or looked up.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Text from "../../Text.ts"
import { IdempotencyKey, RunOwner, ThreadId } from "../Run.ts"
import { fail, InvalidInput, type RunEventLogError } from "./runErrors.ts"

const isKey = Schema.is(IdempotencyKey)
const isThreadId = Schema.is(ThreadId)
const isOwner = Schema.is(RunOwner)
const shortText = "1 to 255 characters without control characters"

/** Fails with `InvalidInput` if a part is out of its domain. */
export const checkAddress = (address: {
  readonly threadId?: string
  readonly idempotencyKey?: string
  readonly owner: RunOwner
}): Effect.Effect<void, RunEventLogError> => {
  if (address.threadId !== undefined && !isThreadId(address.threadId)) {
    return fail(new InvalidInput({ field: "threadId", expected: shortText }))
  }
  if (address.idempotencyKey !== undefined && !isKey(address.idempotencyKey)) {
    return fail(new InvalidInput({ field: "idempotencyKey", expected: shortText }))
  }
  if (!isOwner(address.owner)) {
    return fail(new InvalidInput({ field: "owner", expected: `a subject, and optionally an org, each ${shortText}` }))
  }
  return Effect.void
}

/** Fails with `InvalidInput` if the reason of an end is not one that every store can keep. */
export const checkReason = (reason: string | undefined): Effect.Effect<void, RunEventLogError> =>
  reason === undefined || Text.isKey(reason)
    ? Effect.void
    : fail(new InvalidInput({ field: "reason", expected: shortText }))
