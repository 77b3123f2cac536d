import type { ClientError } from "@sallyport/client/ClientError"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { type ComponentProps, type ReactNode, useEffect, useId, useLayoutEffect, useRef, useState } from "react"
import { useStore } from "../Hooks.ts"
import * as Words from "./words.ts"

/** Returns the time, again each second; none before the page runs. */
export const useNow = (): Option.Option<DateTime.Utc> => {
  const store = useStore()
  const [now, setNow] = useState(Option.none<DateTime.Utc>())
  useEffect(
    () =>
      store.watch(
        DateTime.now.pipe(
          Effect.flatMap((now) => Effect.sync(() => setNow(Option.some(now)))),
          Effect.repeat(Schedule.spaced("1 second")),
          Effect.asVoid
        )
      ),
    [store]
  )
  return now
}

/** Says how long ago something was. */
export const Ago = ({ at, now }: { readonly at: DateTime.Utc; readonly now: Option.Option<DateTime.Utc> }) => (
  <time dateTime={DateTime.formatIso(at)}>
    {Option.match(now, {
      onNone: () => "",
      onSome: (now) => `${Words.length(now.epochMilliseconds - at.epochMilliseconds)} ago`
    })}
  </time>
)

/** Counts down to a time; it is not read out each second. */
export const Left = ({ at, now }: { readonly at: DateTime.Utc; readonly now: Option.Option<DateTime.Utc> }) => (
  <span className="sp-num">
    {Option.match(now, { onNone: () => "", onSome: (now) => Words.left(at.epochMilliseconds - now.epochMilliseconds) })}
  </span>
)

/** Renders a button that stays focusable while it is busy. */
export const Button = ({ busy = false, kind = "primary", onClick, ...rest }: ComponentProps<"button"> & {
  readonly busy?: boolean
  readonly kind?: "primary" | "second" | "row" | "quiet" | "danger"
}) => (
  <button
    type="button"
    {...rest}
    className="sp-b"
    data-kind={kind}
    data-state={busy ? "busy" : "idle"}
    aria-disabled={busy}
    onClick={busy ? undefined : onClick}
  />
)

/** Tells the fault of an action. */
export const Fault = ({ fault }: { readonly fault: Option.Option<ClientError> }) => (
  <div role="alert">
    {Option.isSome(fault) && <p className="sp-note" data-state="bad">{Words.fault(fault.value)}</p>}
  </div>
)

/** Asks in a modal dialog. The control with `data-autofocus` has the focus: the one that changes nothing. */
export const Dialog = ({ children, onClose, role = "dialog", title }: {
  readonly title: string
  readonly role?: "dialog" | "alertdialog"
  readonly onClose: () => void
  readonly children: ReactNode
}) => {
  const ref = useRef<HTMLDialogElement>(null)
  const id = useId()
  // Before the dialog leaves the document, so that the focus goes back to what opened it.
  useLayoutEffect(() => {
    const dialog = ref.current
    dialog?.showModal()
    dialog?.querySelector<HTMLElement>("[data-autofocus]")?.focus()
    return () => dialog?.close()
  }, [])
  return (
    <dialog
      ref={ref}
      role={role}
      aria-labelledby={id}
      className="sp-dialog"
      onClose={({ currentTarget }) => currentTarget.open || onClose()}
    >
      <div>
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  )
}

/** Renders a section with its heading. */
export const Section = ({ action, children, id, lead, title }: {
  readonly id: string
  readonly title: string
  readonly lead?: string
  readonly action?: ReactNode
  readonly children: ReactNode
}) => (
  <section id={id} aria-labelledby={`${id}-h`}>
    <div className="sp-sh">
      <div>
        <h2 id={`${id}-h`} tabIndex={-1}>{title}</h2>
        {lead !== undefined && <p>{lead}</p>}
      </div>
      {action}
    </div>
    {children}
  </section>
)

/** Says that a section has nothing, and what to do. */
export const Empty = ({ children, title }: { readonly title: string; readonly children?: ReactNode }) => (
  <div className="sp-empty">
    <strong>{title}</strong>
    <span>{children}</span>
  </div>
)
