import type { RunsError } from "@sallyport/client/RunsError"
import { promptOf, type RunAnswer, type RunQuestion as Question } from "@sallyport/core/runs/Run"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import { type RefObject, useId, useLayoutEffect, useRef, useState } from "react"
import { useActions } from "../Hooks.ts"
import type { Services } from "../Store.ts"
import { Button, Fault, useSettled } from "./parts.tsx"
import * as Words from "./words.ts"

/**
 * Asks what a run asks, and sends one answer. It stays busy until the run has an answer, this one or another. The focus then
 * goes to `next`, if it was here.
 */
export const RunQuestion = ({ answer, mayAnswer, next, question }: {
  readonly question: Question
  readonly mayAnswer: boolean
  readonly answer: (answer: RunAnswer) => Effect.Effect<unknown, RunsError, Services>
  readonly next: RefObject<HTMLElement | null>
}) => {
  const { act, busy, fault } = useActions<RunsError>()
  const isSettled = useSettled()
  const [given, setGiven] = useState(Option.none<Schema.Json>())
  const [text, setText] = useState("")
  const form = useRef<HTMLFormElement>(null)
  const id = useId()
  // Before the form leaves the document.
  useLayoutEffect(() => () => {
    if (form.current?.contains(document.activeElement) === true) next.current?.focus()
  }, [next])
  const isGiven = Option.isSome(busy) || (Option.isSome(given) && Option.isNone(fault))
  const { choices, text: asked } = promptOf(question)
  const give = (value: Schema.Json) => {
    setGiven(Option.some(value))
    void act("answer", answer({ name: question.name, value }))
  }
  return (
    <form
      ref={form}
      className="sp-question"
      aria-labelledby={id}
      onSubmit={(event) => {
        event.preventDefault()
        if (choices === undefined && text !== "" && isSettled && !isGiven) give(text)
      }}
    >
      <p id={id} className="sp-asked">{asked}</p>
      {!mayAnswer
        ? <p className="sp-hint">Answer on a device that may start and stop runs; this one may not.</p>
        : choices === undefined
        ? (
          <>
            <label className="sp-field">
              <span>Your answer</span>
              <input
                className="sp-in"
                value={text}
                autoComplete="off"
                readOnly={isGiven}
                onChange={({ target }) => setText(target.value)}
              />
            </label>
            <Button type="submit" busy={isGiven} off={text === ""} wait={!isSettled}>Answer</Button>
          </>
        )
        : (
          <div className="sp-row">
            {choices.map((choice, index) => (
              <Button
                key={index}
                kind="second"
                busy={isGiven && Option.contains(given, choice)}
                off={isGiven && !Option.contains(given, choice)}
                wait={!isSettled}
                onClick={() => give(choice)}
              >
                {Words.runAnswer(choice)}
              </Button>
            ))}
          </div>
        )}
      <Fault fault={fault} />
    </form>
  )
}
