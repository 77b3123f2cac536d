import type { RunsError } from "@sallyport/client/RunsError"
import { promptOf, type RunAnswer } from "@sallyport/core/runs/Run"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type ReactNode, useId, useRef, useState } from "react"
import { type FollowedRun, useActions, useRun } from "../Hooks.ts"
import { Button, Fault, useLasting, useScopes } from "./parts.tsx"
import { RunQuestion } from "./RunQuestion.tsx"
import * as Words from "./words.ts"

/** The largest number of steps that are drawn one by one. */
const drawn = 60

/** Tells of each step of a run whether it was seen live, caught up with, or is to come. */
const stepsOf = (
  { caughtUp, events, progress }: FollowedRun,
  total: number
): ReadonlyArray<"live" | "caught" | "none"> => {
  const done = Option.match(progress, { onNone: () => 0, onSome: ({ done }) => done })
  // Steps and events mostly come one for one; if a run tells less often, its last event stands for the steps before it.
  return Array.from({ length: total }, (_, step) =>
    step >= done
      ? "none"
      : caughtUp[Math.min(events.length - 1, Math.floor((step * events.length) / done))] === true
      ? "caught"
      : "live")
}

const describe = (run: FollowedRun, isLost: boolean, isStopped: boolean): string => {
  const steps = Option.match(run.progress, {
    onNone: () => "",
    onSome: ({ done, total }) => ` ${done} of ${total}, none lost and none twice.`
  })
  if (Option.isSome(run.end)) {
    const { error, reason, status } = run.end.value
    if (status === "succeeded") return `The run is done.${steps}`
    if (status === "aborted") return isStopped ? "The run was stopped by you." : "The run was stopped."
    if (reason === "server_shutdown") return "The server was shut down before the run was done. Start it again."
    if (reason === "stale_run") return "Its server went away before the run was done. Start it again."
    return `The run failed.${error === undefined ? "" : ` ${Words.ended(error.message)}`} Start it again.`
  }
  if (isLost) return "The connection is lost. The run goes on without you. Trying again…"
  if (run.questions.length > 0) return "Waiting for an answer."
  if (run.isQueued) return "Waiting for its turn."
  return run.connection === "open" || run.events.length > 0
    ? "Running. You are following it live."
    : "Looking at the run…"
}

/**
 * Follows a run and shows how far it has come: the steps that were seen live, those that the page caught up with, and
 * those to come. `Stop` stays busy until the run has ended. What the run asks is asked here, and what it was answered is told,
 * also if the answer came from elsewhere.
 *
 * **Details**
 *
 * A program that writes `progress` with its events (see `RunProgress` of `@sallyport/core/runs/Run`) gets a bar, and so does
 * one whose `total` of events is known; of the others the events are counted. `children` stand beside `Stop`, such as the
 * button that starts a run.
 *
 * @category components
 * @since 0.1.0
 */
export const RunView = ({ children, lead, runId, title = "Run", total }: {
  readonly runId: Option.Option<string>
  /** How many events the run will have, if its program does not say how far it has come. */
  readonly total?: number | undefined
  readonly title?: string | undefined
  readonly lead?: ReactNode
  readonly children?: ReactNode
}) => {
  const followed = useRun(runId)
  const counted = Option.map(Option.fromUndefinedOr(total), (total) => ({ done: followed.events.length, total }))
  const run = { ...followed, progress: Option.orElse(followed.progress, () => counted) }
  const { act, busy, fault } = useActions<RunsError>()
  const mayOperate = useScopes().includes("runs:operate")
  const [answered, setAnswered] = useState<ReadonlyArray<string>>([])
  const heading = useRef<HTMLHeadingElement>(null)
  const [stopped, setStopped] = useState<string>()
  const isLost = useLasting(run.connection === "lost")
  const id = useId()
  const isFollowed = Option.isSome(runId)
  const isRunning = isFollowed && Option.isNone(run.end) && Option.isNone(run.fault)
  const isStopped = isFollowed && stopped === runId.value && Option.isNone(fault)
  const progress = Option.getOrUndefined(run.progress)
  const keyOf = (name: string) => `${Option.getOrElse(runId, () => "")} ${name}`
  // The event may be here before the answer to the request is, so it is known from the click on who has answered.
  const answer = (given: RunAnswer) =>
    Effect.suspend(() => {
      const asked = keyOf(given.name)
      setAnswered((answered) => [...answered, asked])
      return Effect.tapError(run.answer(given), ({ reason }) =>
        Effect.sync(() => {
          if (reason._tag === "Conflict") setAnswered((answered) => answered.filter((name) => name !== asked))
        }))
    })
  return (
    <section className="sp-run" aria-labelledby={id}>
      <div>
        <h2 id={id} ref={heading} tabIndex={-1}>{title}</h2>
        {lead !== undefined && <p className="sp-hint">{lead}</p>}
      </div>
      <p className="sp-big" aria-hidden="true">
        {progress === undefined ? run.events.length : progress.done}
        <small>
          {progress === undefined ? (run.events.length === 1 ? "event" : "events") : `of ${progress.total}`}
        </small>
      </p>
      {progress !== undefined && progress.total > 0 && (
        <>
          <progress
            className={progress.total <= drawn ? "sp-vh" : "sp-progress"}
            max={progress.total}
            value={progress.done}
            aria-label="How far the run has come"
          />
          {progress.total <= drawn && (
            <>
              <div className="sp-steps" aria-hidden="true">
                {stepsOf(run, progress.total).map((state, step) => <i key={step} data-state={state} />)}
              </div>
              <p className="sp-key" aria-hidden="true">
                <span>
                  <i data-state="live" />seen live
                </span>
                <span>
                  <i data-state="caught" />caught up
                </span>
                <span>
                  <i data-state="none" />to come
                </span>
              </p>
            </>
          )}
        </>
      )}
      <p role="status" className="sp-hint" data-state={isRunning ? run.connection : "ended"}>
        {Option.isSome(run.fault)
          ? Words.fault(run.fault.value)
          : isFollowed
          ? describe(run, isLost, isStopped)
          : "Nothing is running."}
      </p>
      <div role="log" className="sp-answers" aria-label="What it has asked">
        {run.answers.map((given) => (
          <p key={given.name}>
            <span className="sp-asked">{promptOf(given).text}</span>
            <span>
              {answered.includes(keyOf(given.name)) ? "You answered: " : "Answered elsewhere: "}
              <b>{Words.runAnswer(given.value)}</b>
            </span>
          </p>
        ))}
      </div>
      {run.questions.map((question) => (
        <RunQuestion
          key={keyOf(question.name)}
          question={question}
          mayAnswer={mayOperate}
          answer={answer}
          next={heading}
        />
      ))}
      <Fault fault={fault} />
      <div className="sp-row">
        {isRunning && mayOperate && (
          <Button
            kind="second"
            busy={Option.isSome(busy) || isStopped}
            onClick={() => {
              setStopped(runId.value)
              void act("stop", run.abort)
            }}
          >
            Stop
          </Button>
        )}
        {children}
      </div>
    </section>
  )
}
