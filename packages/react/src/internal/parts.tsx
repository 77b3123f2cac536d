import type { AccessView } from "@sallyport/client/AccessFeed"
import type { ClientError } from "@sallyport/client/ClientError"
import * as Connection from "@sallyport/client/Connection"
import type { RunsError } from "@sallyport/client/RunsError"
import * as Text from "@sallyport/core/Text"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import {
  type ComponentProps,
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useId,
  useLayoutEffect,
  useRef,
  useState
} from "react"
import { useSnapshot, useStore } from "../Hooks.ts"
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
      onSome: (now) => Words.ago(now.epochMilliseconds - at.epochMilliseconds)
    })}
  </time>
)

/** Counts down to a time; it is not read out each second. */
export const Left = ({ at, now }: { readonly at: DateTime.Utc; readonly now: Option.Option<DateTime.Utc> }) => (
  <span className="sp-num">
    {Option.match(now, { onNone: () => "", onSome: (now) => Words.left(at.epochMilliseconds - now.epochMilliseconds) })}
  </span>
)

/** Renders a button that stays focusable while it is busy, or while it has to wait. */
export const Button = (
  { busy = false, children, kind = "primary", off = false, onClick, wait = false, ...rest }:
    & ComponentProps<"button">
    & {
      readonly busy?: boolean
      /** Whether it can do nothing for now, and shows it. */
      readonly off?: boolean
      /** Whether it does nothing for a moment, and does not show it. */
      readonly wait?: boolean
      readonly kind?: "primary" | "second" | "row" | "quiet" | "plain" | "inline" | "danger"
    }
) => (
  <button
    type="button"
    {...rest}
    className="sp-b"
    data-kind={kind}
    data-state={busy ? "busy" : off ? "off" : "idle"}
    aria-disabled={busy || off || wait}
    // A key that is held down presses once, whatever stands there by then.
    onKeyDown={(event) => event.repeat && event.key === "Enter" ? event.preventDefault() : undefined}
    onClick={busy || off || wait ? (event) => event.preventDefault() : onClick}
  >
    {children}
  </button>
)

const drawings = {
  bad: "M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0zM12 7.5v5.5M12 16.5h.01",
  clock: "M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0zM12 7v5.2l3.2 2",
  cut: "M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0zM6 18 18 6",
  done: "m5 12.5 4.5 4.5L19 7.5",
  agent:
    "M6.5 8h11A2.5 2.5 0 0 1 20 10.5V17a2.5 2.5 0 0 1-2.5 2.5h-11A2.5 2.5 0 0 1 4 17v-6.5A2.5 2.5 0 0 1 6.5 8zM12 8V4.5M9 13v1.5M15 13v1.5",
  browser: "M5 4.5h14a2 2 0 0 1 2 2v11a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-11a2 2 0 0 1 2-2zM3 9h18M6 6.75h.01M8.5 6.75h.01",
  key: "M12.5 15a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0zM11.2 11.8l8-8M16 7l3 3",
  laptop:
    "M6 4.5h12A1.5 1.5 0 0 1 19.5 6v8a1.5 1.5 0 0 1-1.5 1.5H6A1.5 1.5 0 0 1 4.5 14V6A1.5 1.5 0 0 1 6 4.5zM2.5 19.5h19",
  link: "M10 14a4 4 0 0 0 6 .4l3-3a4 4 0 0 0-5.7-5.7L12 7M14 10a4 4 0 0 0-6-.4l-3 3A4 4 0 0 0 10.7 18.3L12 17",
  phone:
    "M9 2.5h6a2.5 2.5 0 0 1 2.5 2.5v14a2.5 2.5 0 0 1-2.5 2.5H9A2.5 2.5 0 0 1 6.5 19V5A2.5 2.5 0 0 1 9 2.5zM10.5 18.5h3",
  plus: "M12 5v14M5 12h14",
  run: "M7 4.5v15l12-7.5z",
  terminal: "M5 4.5h14a2 2 0 0 1 2 2v11a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-11a2 2 0 0 1 2-2zM7 9.5l3 2.5-3 2.5M12.5 15H17",
  leave: "M14 4.5H6.5v15H14M10.5 12h10m-3.5-3.5 3.5 3.5-3.5 3.5",
  stay: "M4 12h16m-5-5 5 5-5 5"
} as const

export type IconName = keyof typeof drawings

/** Draws a small sign beside a text that says the same. */
export const Icon = ({ name }: { readonly name: IconName }) => (
  <svg className="sp-i" viewBox="0 0 24 24" aria-hidden="true">
    <path d={drawings[name]} />
  </svg>
)

const devices: Readonly<Record<string, IconName>> = {
  desktop: "laptop",
  phone: "phone",
  tablet: "phone",
  terminal: "terminal",
  program: "agent"
}

/** Shows how an id begins, as the lists of the command do. */
export const Id = ({ id }: { readonly id: string }) => <span className="sp-mono" title={id}>{Text.shortId(id)}</span>

/** Draws what kind of device something is. */
export const DeviceIcon = ({ kind }: { readonly kind: string }) => (
  <span className="sp-kind">
    <Icon name={devices[kind] ?? "browser"} />
  </span>
)

/** Tells a fault and its remedy, a wait or good news. Those of an action are in a live region of its own. */
export const Note = ({ children, icon, state }: {
  readonly state?: "bad" | "waiting" | "good"
  readonly icon?: IconName
  readonly children: ReactNode
}) => (
  <div className="sp-note" data-state={state}>
    {icon === undefined ? <span className="sp-spin" aria-hidden="true" /> : <Icon name={icon} />}
    <p>{children}</p>
  </div>
)

/** Tells by its shape how a question stands: it asks, it waits, it is yours to open, it is open, it is barred. */
export type PortSign = "ask" | "wait" | "ajar" | "open" | "barred"

const arch = "M6 44V22a18 18 0 0 1 36 0v22z"
const leaf = "M14 44V25a10 10 0 0 1 20 0v19z"

const Port = ({ sign }: { readonly sign: PortSign }) => (
  <svg className="sp-port" data-sign={sign} viewBox="5 3 38 45" aria-hidden="true">
    <path className="sp-arch" d={arch} />
    {(sign === "open" || sign === "ajar") && <path className="sp-gap" d={leaf} />}
    {sign === "ajar" && <path className="sp-leaf" d="M14 44V25a10 10 0 0 1 8-9.8c2.5 2 4 5 4 8.8v23z" />}
    {(sign === "ask" || sign === "wait" || sign === "barred") && <path className="sp-leaf" d={leaf} />}
    {sign === "barred" && <path className="sp-gap" d="M6 29h36v6H6z" />}
    {sign === "ask" && <path className="sp-dots" d="M29 34h.01" />}
    {sign === "ajar" && <path className="sp-dots" d="M22.5 35h.01" />}
    {sign === "wait" && <path className="sp-dots" d="M18 33h.01M24 33h.01M30 33h.01" />}
  </svg>
)

/**
 * Asks one question, or tells one thing. Its heading has the focus if it follows an action, so that a key that is still
 * held down answers nothing.
 */
export const Gate = ({ children, focused = false, lead, sign, title }: {
  readonly sign: PortSign
  readonly title: string
  readonly lead?: ReactNode
  readonly focused?: boolean
  readonly children?: ReactNode
}) => {
  const heading = useRef<HTMLHeadingElement>(null)
  const id = useId()
  useEffect(() => {
    const before = document.title
    const [, server] = before.split(" · ")
    document.title = server === undefined ? title : `${title} · ${server}`
    return () => {
      document.title = before
    }
  }, [title])
  useEffect(() => {
    if (focused) heading.current?.focus()
  }, [focused])
  return (
    <section className="sp-gate" aria-labelledby={id}>
      <header>
        <div className="sp-gh">
          <Port sign={sign} />
          <h1 id={id} ref={heading} tabIndex={-1}>{title}</h1>
        </div>
        {lead !== undefined && <p className="sp-lead">{lead}</p>}
      </header>
      {children}
    </section>
  )
}

const beforeConsent = Duration.millis(500)

/**
 * Returns whether what is shown has been in view for half a second, counted again when `shown` changes. A click before may
 * have been meant for what stood at the same place, so a question takes no answer until then.
 */
export const useSettled = (shown?: string): boolean => {
  const store = useStore()
  const [settled, setSettled] = useState(false)
  useEffect(() => {
    let stop = () => {}
    const begin = () => {
      stop()
      setSettled(false)
      if (document.visibilityState !== "visible") return
      stop = store.watch(Effect.andThen(Effect.sleep(beforeConsent), Effect.sync(() => setSettled(true))))
    }
    begin()
    document.addEventListener("visibilitychange", begin)
    return () => {
      stop()
      document.removeEventListener("visibilitychange", begin)
    }
  }, [store, shown])
  return settled
}

/**
 * Gives the focus to a heading if an entry or a section leaves the page with it: to that of the section, or of the page.
 * Otherwise a keyboard would begin at the top of the page again.
 */
const useHeadingAfter = <E extends HTMLElement>(around: "section" | "main", heading: "h1" | "h2") => {
  const ref = useRef<E>(null)
  // Before it leaves the document.
  useLayoutEffect(() => {
    const element = ref.current
    return () => {
      const focused = document.activeElement
      if (element?.contains(focused) !== true) return
      // A pointer keeps what it was at in view.
      const preventScroll = focused?.matches(":focus-visible") !== true
      element.closest(around)?.querySelector<HTMLElement>(heading)?.focus({ preventScroll })
    }
  }, [around, heading])
  return ref
}

/** Renders an entry of a list that an action, or another device, may take away. */
export const Entry = (props: ComponentProps<"li">) => (
  <li ref={useHeadingAfter<HTMLLIElement>("section", "h2")} {...props} />
)

const unnoticed = Duration.seconds(2)

/** Returns whether something has been so for two seconds: a connection that is back at once was never lost to a reader. */
export const useLasting = (holds: boolean): boolean => {
  const store = useStore()
  const [lasts, setLasts] = useState(false)
  useEffect(() => {
    if (!holds) return undefined
    const stop = store.watch(Effect.andThen(Effect.sleep(unnoticed), Effect.sync(() => setLasts(true))))
    return () => {
      stop()
      setLasts(false)
    }
  }, [store, holds])
  return holds && lasts
}

/** Tells what is held by the session of this page; none while it is not known. */
export const useScopes = (): ReadonlyArray<string> =>
  Option.match(useSnapshot().session, {
    onNone: () => [],
    onSome: (state) => state.authenticated ? state.session.scopes : []
  })

const unknownHost: Words.HostScopes = { scopes: [], scopeTitles: {} }

/** Returns the scopes of the host and its words for them; nothing while they are not known. */
export const useHostScopes = (): Words.HostScopes =>
  Option.match(useSnapshot().session, { onNone: () => unknownHost, onSome: ({ policy }) => policy })

/** Says what scopes allow, as what follows "may". */
export const Doing = ({ scopes }: { readonly scopes: ReadonlyArray<string> }) => (
  <>{Words.doing(scopes, useHostScopes())}</>
)

/** Names a scope in a choice, with more of what it allows below its name, or why it cannot be chosen. */
export const ScopeName = ({ name, refusal }: { readonly name: string; readonly refusal?: string | undefined }) => {
  const titles = useHostScopes().scopeTitles
  const more = refusal ?? Words.detail(name, titles)
  return (
    <span>
      {Words.title(name, titles)}
      {more !== undefined && <small>{more}</small>}
    </span>
  )
}

/** Renders what is below once the server has told who has access. */
export const Known = ({ children }: { readonly children: (view: AccessView) => ReactNode }) => {
  const { access } = useSnapshot()
  return Option.isSome(access) ? children(access.value) : <p role="status">Looking at who has access…</p>
}

/** Returns the address of the server; none before the page runs. */
export const useServer = (): Option.Option<URL> => {
  const store = useStore()
  const [server, setServer] = useState(Option.none<URL>())
  useEffect(
    () =>
      store.watch(
        Connection.Connection.use(({ baseUrl }) => Effect.sync(() => setServer(Option.some(new URL(baseUrl)))))
      ),
    [store]
  )
  return server
}

/** Tells the fault of an action, or of what only reads. */
export const Fault = ({ fault, reading = false }: {
  readonly fault: Option.Option<ClientError | RunsError>
  readonly reading?: boolean
}) => (
  <div role="alert">
    {Option.isSome(fault) && (
      <Note state="bad" icon="bad">{reading ? Words.unread(fault.value) : Words.fault(fault.value)}</Note>
    )}
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

/** Lists what a step ends, each beside a sign, and what goes on. */
export const Ends = (
  { items }: { readonly items: ReadonlyArray<readonly [icon: "cut" | "leave" | "link" | "stay", text: string]> }
) => (
  <ul className="sp-ends">
    {items.map(([icon, text]) => (
      <li key={text} data-state={icon === "stay" ? "stays" : "ends"}>
        <Icon name={icon} />
        <span>{text}</span>
      </li>
    ))}
  </ul>
)

/** Describes a section in the contents of a page: what it is called there, and how many entries it has. */
export interface Listed {
  readonly id: string
  readonly words: string
  readonly count: number
  /** Whether its entries wait for a decision. */
  readonly waits: boolean
}

/** Adds a section to the contents of the page, if it has some, and returns what takes it out again. */
export const Contents = createContext<((section: Listed) => () => void) | undefined>(undefined)

/** Renders a section with its heading. */
export const Section = ({ action, children, count = 0, id, lead, title, waits = false, words = title }: {
  readonly id: string
  readonly title: string
  /** What it is called in the contents of the page, if that is shorter. */
  readonly words?: string
  /** How many entries the contents tell of. */
  readonly count?: number
  readonly waits?: boolean
  readonly lead?: string
  readonly action?: ReactNode
  readonly children: ReactNode
}) => {
  const enter = useContext(Contents)
  useEffect(() => enter?.({ id, words, count, waits }), [enter, id, words, count, waits])
  return (
    <section id={id} ref={useHeadingAfter("main", "h1")} aria-labelledby={`${id}-h`}>
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
}

/** Says that a section has nothing, and what to do. */
export const Empty = ({ children, title }: { readonly title: string; readonly children?: ReactNode }) => (
  <div className="sp-empty">
    <strong>{title}</strong>
    {children !== undefined && <span>{children}</span>}
  </div>
)
