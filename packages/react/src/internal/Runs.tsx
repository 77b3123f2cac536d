import type { RunsError } from "@sallyport/client/RunsError"
import type { RunView as Run } from "@sallyport/contract/RunGroup"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { useState } from "react"
import { useActions, useRuns } from "../Hooks.ts"
import { Ago, Button, Empty, Fault, Icon, Id, Section, useNow, useScopes } from "./parts.tsx"
import { RunView } from "./RunView.tsx"
import * as Words from "./words.ts"

const tones: Readonly<Record<string, string>> = { running: "me", waiting: "warn", succeeded: "ok", failed: "bad" }

/**
 * Lists this subject's runs, the newest first: what runs, and how the others ended. A run can be opened, answered and stopped.
 *
 * @category components
 * @since 0.1.0
 */
export const Runs = () => {
  const { abort, fault, readOlder, refresh, runs } = useRuns()
  const { act, busy, fault: refused } = useActions<RunsError>()
  const mayOperate = useScopes().includes("runs:operate")
  const now = useNow()
  const [opened, setOpened] = useState<string>()
  const isBusy = Option.isSome(busy)
  const row = (run: Run) => {
    const { completedAt, endReason, lastSeq, runId, startedAt, status, threadId } = run
    const isOpen = opened === runId
    const mayAnswer = status === "waiting" && mayOperate
    return (
      <li key={runId} className="sp-item">
        <span className="sp-kind">
          <Icon name="run" />
        </span>
        <div>
          <p className="sp-name">
            <span>{threadId}</span>
            <span className="sp-tag" data-state={tones[status]}>{Words.runState(status)}</span>
          </p>
          <p className="sp-meta">
            <span>{Words.count(lastSeq, "event")}</span>
            <span>
              started <Ago at={startedAt} now={now} />
            </span>
            {completedAt !== null && (
              <span>
                ended <Ago at={completedAt} now={now} />
              </span>
            )}
            <Id id={runId} />
          </p>
          {endReason !== null && <p className="sp-hint">{Words.runReason(endReason)}</p>}
        </div>
        <div className="sp-do">
          {completedAt === null && mayOperate && (
            <Button
              kind="row"
              aria-label={`Stop the run of ${threadId}`}
              busy={isBusy}
              onClick={() => act("stop", Effect.andThen(abort(runId), refresh))}
            >
              Stop
            </Button>
          )}
          <Button
            kind="row"
            aria-expanded={isOpen}
            aria-label={`${isOpen ? "Close" : mayAnswer ? "Answer" : "Open"} the run of ${threadId}`}
            onClick={() => setOpened(isOpen ? undefined : runId)}
          >
            {isOpen ? "Close" : mayAnswer ? "Answer" : "Open"}
          </Button>
        </div>
        {isOpen && (
          <div className="sp-wide">
            <RunView runId={Option.some(runId)} title={threadId} />
          </div>
        )}
      </li>
    )
  }
  return (
    <Section
      id="runs"
      title="Runs"
      count={Option.match(runs, {
        onNone: () => 0,
        onSome: (runs) => runs.filter(({ completedAt }) => completedAt === null).length
      })}
      lead="They go on without a reader, also while no device is here."
    >
      <Fault fault={Option.orElse(refused, () => fault)} reading={Option.isNone(refused)} />
      {Option.match(runs, {
        onNone: () => <p role="status">Looking at the runs…</p>,
        onSome: (runs) =>
          runs.length === 0
            ? <Empty title="Nothing has run yet.">A run that is started anywhere shows here.</Empty>
            : <ul className="sp-list">{runs.map(row)}</ul>
      })}
      {Option.isSome(readOlder) && (
        <p className="sp-more">
          <Button kind="plain" busy={isBusy} onClick={() => act("older", readOlder.value)}>Show older runs</Button>
        </p>
      )}
    </Section>
  )
}
