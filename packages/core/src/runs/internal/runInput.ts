/**
 * What a run is asked for by, and what is said of one, checked before anything is stored or looked up.
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Input from "../../Input.ts"
import { isRunId, RunEndStatus, RunOwner, RunStatus, WhenBusy } from "../Run.ts"
import type { WrittenRun } from "./runCalls.ts"
import { InvalidInput, RunEventLogError, RunNotFound } from "./runErrors.ts"

const check = Input.check((problem) => new RunEventLogError({ reason: new InvalidInput(problem) }))

const rules = {
  threadId: Input.key,
  idempotencyKey: Input.key,
  owner: Input.rule(RunOwner, `a subject, and optionally an org, each ${Input.key.expected}`),
  reason: Input.key,
  whenBusy: Input.oneOf(WhenBusy),
  name: Input.key,
  status: Input.oneOf(RunStatus),
  limit: Input.count,
  after: Input.rule(Schema.String.check(Schema.makeFilter(isRunId)), "a run of the page before"),
  end: Input.rule(
    Schema.Struct({ status: RunEndStatus }),
    `an end, whose status is one of ${RunEndStatus.literals.join(", ")}`
  )
}

/** Fails with `InvalidInput` if a part is out of its domain. */
export const checkInput = (input: { readonly [Field in keyof typeof rules]?: unknown }): Effect.Effect<
  void,
  RunEventLogError
> => check(rules, input)

/** Says why no run has such a writer, or nothing. */
export const writerProblem = ({ epoch, runId }: WrittenRun): InvalidInput | RunNotFound | undefined =>
  !isRunId(runId)
    ? new RunNotFound({ runId })
    : Input.count.is(epoch)
    ? undefined
    : new InvalidInput({ field: "epoch", expected: Input.count.expected })
