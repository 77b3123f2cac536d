import * as Access from "@sallyport/client/Access"
import type { ClientError } from "@sallyport/client/ClientError"
import * as Connection from "@sallyport/client/Connection"
import type { PairingPreview, PolicyView, SessionView } from "@sallyport/contract/AccessSchemas"
import { isLoopback } from "@sallyport/core/access/AuthPolicy"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as Text from "@sallyport/core/Text"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { type ReactNode, type SyntheticEvent, useEffect, useLayoutEffect, useRef, useState } from "react"
import { useActions } from "../Hooks.ts"
import type { Services } from "../Store.ts"
import { CodeField, groups } from "./CodeField.tsx"
import { Button, Doing, Ends, Gate, Left, Note, useLasting, useNow, useServer, useSettled } from "./parts.tsx"
import * as Words from "./words.ts"

/** How many symbols the code of a device has, and that of a machine. */
const lengths = [16, 28] as const

interface Told {
  readonly state?: "bad" | "waiting"
  readonly icon: "bad" | "clock" | "cut" | "done"
  readonly strong: string
  readonly text: ReactNode
  /** Whether what stands in the field is wrong. */
  readonly invalid?: boolean
  /** Until when nothing can be sent. */
  readonly until?: DateTime.Utc
}

/** The server does not answer, and is asked again. */
type Absence = "starting" | "down" | "offline" | "cookies"

type State =
  | { readonly _tag: "Enter"; readonly told?: Told }
  | { readonly _tag: "Look" }
  | { readonly _tag: "Wait"; readonly absence: Absence; readonly code: Redacted.Redacted; readonly at: DateTime.Utc }
  | { readonly _tag: "Insecure"; readonly code: Redacted.Redacted }
  | {
    readonly _tag: "Ask"
    readonly code: Redacted.Redacted
    readonly preview: PairingPreview
    readonly session: Option.Option<SessionView>
    /** The name of the server, if it has one. */
    readonly name: string | null
    readonly told?: Told
  }
  | { readonly _tag: "Paired"; readonly session: Option.Option<SessionView> }

const mistyped: Told = {
  state: "bad",
  icon: "bad",
  strong: "This code has a typing error.",
  text: "Compare it with the screen that shows it. Nothing was sent, and the code still works.",
  invalid: true
}

const askForNew = "Ask for a new one: on a paired device, open Connections and choose “Let another device in”."

const endings = {
  used: {
    state: "bad",
    icon: "cut",
    strong: "This code was used already.",
    text:
      "A code lets one device in. If that was not you, tell the owner, who sees the device under Connections. Then " +
      "ask for a new code."
  },
  expired: { state: "bad", icon: "clock", strong: "This code has expired.", text: askForNew },
  revoked: { state: "bad", icon: "cut", strong: "This code was withdrawn.", text: askForNew },
  unknown: {
    state: "bad",
    icon: "cut",
    strong: "The server does not know this code.",
    text: "It is of another server, or for another program only, or it ended more than a day ago. Ask for a new one."
  }
} satisfies Record<string, Told>

/** How long to wait before a server that does not answer is asked again. */
const pause = { seconds: 8 }

/** Returns what to show for a fault of a request that used nothing up. */
const refused = (code: Redacted.Redacted, { message, reason }: ClientError): Effect.Effect<State> =>
  Effect.map(DateTime.now, (now): State => {
    const at = DateTime.addDuration(now, pause)
    switch (reason._tag) {
      case "InvalidRequest":
        return { _tag: "Enter", told: reason.code === "malformed_code" ? mistyped : bad(message) }
      case "Unauthorized":
        return {
          _tag: "Enter",
          told: reason.code === "invalid_credential" ? endings[reason.ended ?? "unknown"] : bad(message)
        }
      case "Forbidden":
        return reason.code === "cross_origin" && location.protocol === "http:" && !isLoopback(location.hostname)
          ? { _tag: "Insecure", code }
          : { _tag: "Enter", told: bad(message) }
      case "TooManyRequests":
        return {
          _tag: "Enter",
          told: {
            state: "waiting",
            icon: "clock",
            strong: "Too many wrong codes.",
            text: "Your code stays as it is.",
            until: DateTime.add(now, { seconds: reason.retryAfterSeconds ?? 60 })
          }
        }
      case "Unavailable":
        return { _tag: "Enter", told: unanswered }
      case "Unreachable":
        return {
          _tag: "Wait",
          // A proxy that answers for a server which does not yet.
          absence: reason.failure === "unavailable" ? "starting" : navigator.onLine ? "down" : "offline",
          code,
          at
        }
      default:
        return { _tag: "Enter", told: bad(message) }
    }
  })

const bad = (message: string): Told => ({
  state: "bad",
  icon: "bad",
  strong: "This did not work.",
  text: Words.ended(message)
})

const unanswered: Told = {
  state: "waiting",
  icon: "clock",
  strong: "The server cannot answer now.",
  text: "Try again in a minute. Your code was not used."
}

/** A server that has only just begun answers what came meanwhile once it can. */
const slow: Told = {
  state: "waiting",
  icon: "clock",
  strong: "Waiting for the server.",
  text: "This is usual for up to a minute after a start. Your code is kept."
}

/** Tells whether a refusal says that a code is of no use. */
const endsCode = (reason: ClientError["reason"]): boolean =>
  reason._tag === "Unauthorized" || (reason._tag === "InvalidRequest" && reason.code === "malformed_code") ||
  (reason._tag === "OAuthError" && reason.error === "invalid_grant")

const unclear: Told = {
  state: "waiting",
  icon: "bad",
  strong: "The answer did not arrive, so the code may have been used.",
  text: "Try the code again within a minute, or look under Connections whether this browser is there."
}

/** The server may have stopped, or lost its database, after it had used the code. */
const unfinished: Told = { ...unclear, strong: "The server could not finish, so the code may have been used." }

/** Tells whether a page may not send a code to its server: others on the network could read it. */
const isInsecure = (server: URL, policy: PolicyView): boolean =>
  policy.kind === "remote-reachable" && server.protocol === "http:" && !isLoopback(server.hostname)

/** Uses a code. If the answer is lost, the same attempt can be made again. */
const redeem = Effect.fnUntraced(function*(
  code: Redacted.Redacted,
  name: string,
  asked: Option.Option<Extract<State, { readonly _tag: "Ask" }>>
): Effect.fn.Return<State, never, Services> {
  const access = yield* Access.Access
  const at = yield* DateTime.now
  if (!navigator.cookieEnabled) return { _tag: "Wait", absence: "cookies", code, at }
  return yield* access.pair({ code, ...(name === "" ? {} : { label: name }) }).pipe(
    Effect.andThen(Effect.option(access.state)),
    Effect.map((state): State =>
      Option.exists(state, ({ authenticated }) => !authenticated)
        ? { _tag: "Wait", absence: "cookies", code, at }
        : {
          _tag: "Paired",
          session: Option.flatMap(state, (state) => state.authenticated ? Option.some(state.session) : Option.none())
        }
    ),
    Effect.catchTag("ClientError", (fault) =>
      Effect.map(refused(code, fault), (state): State =>
        Option.match(asked, {
          onNone: () => fault.reason._tag === "Unavailable" ? { _tag: "Enter", told: unfinished } : state,
          onSome: (asked) => {
            const { reason } = fault
            if (reason._tag === "Unreachable") return { ...asked, told: unclear }
            if (reason._tag === "Unavailable") return { ...asked, told: unfinished }
            // Whatever else is wrong, the code is not, and the question stands.
            return state._tag === "Enter" && !endsCode(reason)
              ? { ...asked, ...(state.told === undefined ? {} : { told: state.told }) }
              : state
          }
        })))
  )
})

/** Looks a code up, and returns the question that it leads to. */
const look = Effect.fnUntraced(function*(code: Redacted.Redacted, name: string): Effect.fn.Return<
  State,
  never,
  Services
> {
  const access = yield* Access.Access
  const { baseUrl } = yield* Connection.Connection
  return yield* Effect.gen(function*() {
    const state = yield* access.refresh
    if (isInsecure(new URL(baseUrl), state.policy)) return { _tag: "Insecure", code } satisfies State
    // The window that an application opens is its own.
    if (state.policy.kind === "desktop-managed-local") return yield* redeem(code, name, Option.none())
    return {
      _tag: "Ask",
      code,
      preview: yield* access.preview(code),
      session: state.authenticated ? Option.some(state.session) : Option.none(),
      name: state.policy.name
    } satisfies State
  }).pipe(Effect.catchTag("ClientError", (fault) => refused(code, fault)))
})

/**
 * Pairs this browser by a code that is typed, pasted, or in the fragment of the page's address, from where it is taken
 * before anything else happens.
 *
 * **Details**
 *
 * It signs in only after it has said as whom, with which scopes and until when, and what that changes for a browser that
 * is signed in already; under `desktop-managed-local` it does not ask. A typing error is told without a request. If an
 * answer is lost, the same attempt is made again. Once paired, it calls `onPaired`, or the browser goes to `continueTo`.
 *
 * @category components
 * @since 0.1.0
 */
export const PairDevice = ({ connections = "connections", continueTo = "/", onPaired }: {
  /** Where the browser goes once it is paired. Default `/`. */
  readonly continueTo?: string | undefined
  /** The address of the page that lists the devices. Default `connections`. */
  readonly connections?: string | undefined
  readonly onPaired?: (() => void) | undefined
}) => {
  const { act, busy } = useActions<never>()
  const server = useServer()
  const now = useNow()
  const [state, setState] = useState<State>({ _tag: "Enter" })
  const [code, setCode] = useState("")
  const [device, setDevice] = useState("")
  const field = useRef<HTMLInputElement>(null)
  const host = Option.match(server, { onNone: () => "this server", onSome: ({ host }) => host })
  const isBusy = Option.isSome(busy)
  const isSlow = useLasting(isBusy)

  const show = (next: Option.Option<State>) => {
    if (Option.isNone(next)) return
    setState(next.value)
    if (next.value._tag === "Enter") field.current?.focus()
    if (next.value._tag !== "Paired") return
    setCode("")
    if (onPaired === undefined) location.replace(continueTo)
    else onPaired()
  }

  const begin = (code: Redacted.Redacted, device: string) => act("look", look(code, device)).then(show)

  // What the address holds, when the page opens and whenever it changes: an address that is opened on this page loads nothing.
  const take = useRef((_name: string) => {})
  useLayoutEffect(() => {
    take.current = (name) => {
      const token = new URLSearchParams(location.hash.slice(1)).get("token")
      if (location.hash !== "") history.replaceState(history.state, "", location.pathname + location.search)
      if (token === null || token === "") return
      const read = PairingCode.parse(token)
      // A credential that an application was given has another form.
      const given = Option.getOrElse(read, () => Redacted.make(token, { label: "pairing-code" }))
      if (Option.isNone(read) && PairingCode.hasCodeForm(token)) {
        setCode(groups(token))
        setState({ _tag: "Enter", told: mistyped })
        return
      }
      if (Option.isSome(read)) setCode(groups(Redacted.value(read.value)))
      setState({ _tag: "Look" })
      void begin(given, name)
    }
  })
  useLayoutEffect(() => {
    const name = Option.getOrElse(Words.browserName(navigator.userAgent), () => "Browser")
    setDevice(name)
    const again = () => take.current(name)
    again()
    addEventListener("hashchange", again)
    return () => removeEventListener("hashchange", again)
  }, [])

  // A server that does not answer is asked again when the time has come, and at once when there is a network again.
  const due = state._tag === "Wait" && state.absence !== "cookies" &&
    Option.exists(now, (now) => DateTime.isLessThanOrEqualTo(state.at, now))
  const again = () => {
    if (state._tag === "Wait") void begin(state.code, device)
  }
  const retry = useRef(again)
  useEffect(() => {
    retry.current = state._tag === "Wait" && state.absence !== "cookies" ? again : () => {}
  })
  useEffect(() => {
    if (due) retry.current()
  }, [due])
  useEffect(() => {
    const online = () => retry.current()
    addEventListener("online", online)
    return () => removeEventListener("online", online)
  }, [])

  const submit = (event: SyntheticEvent) => {
    event.preventDefault()
    const symbols = code.replaceAll("-", "").length
    const parsed = PairingCode.parse(code)
    if (Option.isSome(parsed)) return void begin(parsed.value, device)
    setState({
      _tag: "Enter",
      told: symbols < lengths[0]
        ? {
          state: "bad",
          icon: "bad",
          strong: "This code is not complete.",
          text: `It has ${lengths[0]} symbols; you entered ${symbols}.`,
          invalid: true
        }
        : mistyped
    })
    field.current?.focus()
  }

  const paste = (text: string): string | undefined => {
    const address = /^\s*https?:\/\//i.test(text) ? URL.parse(text.trim()) : null
    if (address === null) {
      return PairingCode.parse(text).pipe(Option.match({ onNone: () => text, onSome: Redacted.value }))
    }
    if (Option.exists(server, ({ origin }) => origin !== address.origin)) {
      setState({
        _tag: "Enter",
        told: {
          state: "waiting",
          icon: "bad",
          strong: "This address is of another server.",
          text: (
            <>
              Open it there: <a href={address.href}>{address.host}</a>. Or enter a code of this server, {host}.
            </>
          )
        }
      })
      return undefined
    }
    return new URLSearchParams(address.hash.slice(1)).get("token") ?? text
  }

  switch (state._tag) {
    case "Look":
      return (
        <Page>
          <Gate sign="wait" title="Pair this browser">
            {isSlow ? <Telling told={slow} now={now} /> : (
              <div role="status">
                <Note>Looking at the pairing code…</Note>
              </div>
            )}
          </Gate>
        </Page>
      )
    case "Enter": {
      const told = isSlow ? slow : state.told
      return (
        <Page>
          <Gate
            sign={told?.state === "bad" ? "barred" : told?.state === "waiting" ? "wait" : "ask"}
            title="Pair this browser"
            lead="Enter the code that the server or a paired device shows. You can also paste the whole address."
          >
            <Telling told={told} now={now} />
            <form className="sp-acts" onSubmit={submit}>
              <CodeField
                ref={field}
                label="Pairing code"
                value={code}
                lengths={lengths}
                invalid={told?.invalid === true}
                hint="16 letters and digits. Dashes and small letters don’t matter."
                onChange={(code) => {
                  setCode(code)
                  if (told?.invalid === true) setState({ _tag: "Enter" })
                }}
                onPaste={paste}
              />
              <Button type="submit" busy={isBusy} off={isHeld(told, now)}>Continue</Button>
            </form>
          </Gate>
        </Page>
      )
    }
    case "Wait": {
      const { absence, at } = state
      const words = absences[absence]
      return (
        <Page>
          <Gate
            key={absence}
            focused
            sign={absence === "starting" ? "wait" : "barred"}
            title={words.title}
            lead={words.lead(host)}
          >
            {absence === "starting" && (
              <div role="status">
                <Note>
                  <strong>Waiting for the server.</strong> This is usual for up to a minute after a start.
                </Note>
              </div>
            )}
            {absence === "down" && (
              <div role="status">
                <Note>
                  <strong>Trying again by itself.</strong>{" "}
                  <span aria-hidden="true">
                    Next try in <Left at={at} now={now} />.{" "}
                  </span>
                  Your code is kept.
                </Note>
              </div>
            )}
            {absence !== "starting" && (
              <div className="sp-acts">
                <Button kind="second" busy={isBusy} onClick={again}>Try now</Button>
              </div>
            )}
          </Gate>
        </Page>
      )
    }
    case "Insecure":
      return (
        <Page>
          <Insecure code={state.code} server={server} />
        </Page>
      )
    case "Ask":
      return (
        <Page>
          <Question
            asked={isSlow ? { ...state, told: slow } : state}
            busy={isBusy}
            continueTo={continueTo}
            device={device}
            host={host}
            name={state.name ?? host}
            now={now}
            onDevice={setDevice}
            onPair={(label) => act("pair", redeem(state.code, label, Option.some(state))).then(show)}
            onRefuse={() =>
              setState({
                _tag: "Enter",
                told: {
                  icon: "done",
                  strong: "Nothing was changed.",
                  text: "The code can still be used until it expires."
                }
              })}
          />
        </Page>
      )
    case "Paired":
      return (
        <Page>
          <Gate
            focused
            sign="open"
            title="This browser is paired"
            lead={Option.isSome(state.session)
              ? (
                <>
                  You are signed in as <b>{state.session.value.subject}</b>{" "}
                  on “{Words.deviceName(state.session.value.device)}”, {Words.lasting(state.session.value)}.
                </>
              )
              : undefined}
          >
            <div className="sp-acts">
              <a className="sp-b" data-kind="primary" href={continueTo}>Continue</a>
              {Option.exists(state.session, ({ scopes }) => scopes.includes("access:read")) && (
                <a className="sp-b" data-kind="plain" href={connections}>See all devices</a>
              )}
            </div>
          </Gate>
        </Page>
      )
  }
}

const absences: Record<Absence, { readonly title: string; readonly lead: (host: string) => string }> = {
  starting: {
    title: "The server is starting",
    lead: () => "This page goes on by itself as soon as the server answers. Your code is kept."
  },
  down: {
    title: "The server does not answer",
    lead: () => "Check that it runs and that this device is in the same network."
  },
  offline: {
    title: "This device is offline",
    lead: () => "Connect it to a network. The page goes on by itself then, and your code is kept."
  },
  cookies: {
    title: "This browser keeps no cookies here",
    lead: (host) => `Pairing needs one. Allow cookies for ${host}, then try again.`
  }
}

const Page = ({ children }: { readonly children: ReactNode }) => (
  <main className="sallyport sp-gates">
    {children}
    <p className="sp-foot">The code leaves the address bar before anything else happens.</p>
  </main>
)

/** Tells whether nothing can be sent yet. */
const isHeld = (told: Told | undefined, now: Option.Option<DateTime.Utc>): boolean => {
  const until = told?.until
  return until !== undefined && Option.exists(now, (now) => DateTime.isLessThan(now, until))
}

/** Tells what became of the last action, in a live region that stands there before. */
const Telling = ({ now, told }: { readonly told: Told | undefined; readonly now: Option.Option<DateTime.Utc> }) => (
  <div role={told?.state === undefined ? "status" : "alert"}>
    {told !== undefined && (
      <Note icon={told.icon} {...(told.state === undefined ? {} : { state: told.state })}>
        <strong>{told.strong}</strong> {told.until !== undefined && (
          isHeld(told, now)
            ? (
              <span aria-hidden="true">
                You can try again in <Left at={told.until} now={now} />.{" "}
              </span>
            )
            : "You can try again now. "
        )}
        {told.text}
      </Note>
    )}
  </div>
)

const Insecure = ({ code, server }: {
  readonly code: Redacted.Redacted
  readonly server: Option.Option<URL>
}) => {
  const address = Option.getOrElse(server, () => new URL(location.href))
  const secure = `https://${address.host}`
  return (
    <Gate
      focused
      sign="barred"
      title="This address is not secure"
      lead="It starts with http. This server pairs over https only, so that others on the network cannot read the code. Your code was not sent."
    >
      <div className="sp-acts">
        <a
          className="sp-b"
          data-kind="primary"
          href={`${secure}${location.pathname}#token=${encodeURIComponent(groups(Redacted.value(code)))}`}
        >
          Open {secure}
        </a>
      </div>
      <details className="sp-fold">
        <summary>The server is yours, and has no https yet</summary>
        <div className="sp-tree">
          <p>
            On the machine itself, open{" "}
            <code>http://localhost{address.port === "" ? "" : `:${address.port}`}</code>; that works without https.
          </p>
          <p>
            For other devices, put a certificate in front and start it with <code>--public-url https://…</code>.{" "}
            <code>sallyport doctor</code> tells what is missing.
          </p>
        </div>
      </details>
    </Gate>
  )
}

/** Asks whether to use a code, and says what that gives and what it changes. */
const Question = ({ asked, busy, continueTo, device, host, name, now, onDevice, onPair, onRefuse }: {
  readonly asked: Extract<State, { readonly _tag: "Ask" }>
  readonly busy: boolean
  readonly continueTo: string
  readonly device: string
  readonly host: string
  readonly name: string
  readonly now: Option.Option<DateTime.Utc>
  readonly onDevice: (name: string) => void
  readonly onPair: (name: string) => void
  readonly onRefuse: () => void
}) => {
  const settled = useSettled()
  const { preview, session, told } = asked
  const label = device.trim()
  const named = label === "" || Text.isLine(label)
  const before = Option.map(session, ({ device, subject }) => ({ subject, device: Words.deviceName(device) }))
  const same = Option.exists(before, ({ subject }) => subject === preview.subject)
  const pair = (text: string, kind: "primary" | "second" = "primary") => (
    <Button
      kind={kind}
      busy={busy}
      wait={!settled}
      off={!named || isHeld(told, now)}
      onClick={() => onPair(label)}
    >
      {text}
    </Button>
  )
  const facts = (
    <>
      <dl className="sp-facts">
        <dt>Server</dt>
        <dd>{host}</dd>
        <dt>Signs in</dt>
        <dd>{preview.subject}</dd>
        {preview.label !== null && (
          <>
            <dt>Link</dt>
            <dd>“{preview.label}”</dd>
          </>
        )}
        <dt>May</dt>
        <dd>
          <Doing scopes={preview.scopes} />
          {!preview.scopes.includes("access:write") && <small>It may not let other devices in.</small>}
        </dd>
        <dt>Ends</dt>
        <dd>{Words.ends(preview)}</dd>
      </dl>
      <label className="sp-field">
        <span>Name of this device</span>
        <input
          className="sp-in"
          value={device}
          maxLength={128}
          autoComplete="off"
          aria-invalid={!named}
          onChange={(event) => onDevice(event.target.value)}
        />
        <span className="sp-hint">
          {named
            ? "The owner sees this name in the list of devices."
            : "A name is one line of up to 128 visible characters."}
        </span>
      </label>
      <Telling told={told} now={now} />
    </>
  )
  if (Option.isNone(before)) {
    return (
      <Gate
        focused
        sign="ajar"
        title={`Pair this browser with ${name}?`}
        lead="You opened a pairing address, or entered a code. Nothing has happened yet."
      >
        {facts}
        <div className="sp-acts" data-two>
          {pair("Pair this browser")}
          <Button kind="second" busy={busy} onClick={onRefuse}>Don’t pair</Button>
        </div>
        <p className="sp-hint">You don’t know why you got this address? Close the page.</p>
      </Gate>
    )
  }
  const { device: current, subject } = before.value
  if (same) {
    return (
      <Gate
        focused
        sign="open"
        title="This browser is paired already"
        lead={
          <>
            It is signed in as{" "}
            <b>{subject}</b>, as “{current}”. The code was not used, and still works for another device.
          </>
        }
      >
        <div className="sp-acts">
          <a className="sp-b" data-kind="primary" href={continueTo}>Continue</a>
        </div>
        <details className="sp-fold">
          <summary>Use the code here all the same</summary>
          <div className="sp-gate-more">
            <p className="sp-hint">The session that the code gives takes the place of this one.</p>
            {facts}
            <div className="sp-acts">{pair("Pair this browser again", "second")}</div>
          </div>
        </details>
      </Gate>
    )
  }
  return (
    <Gate
      focused
      sign="ajar"
      title={`Sign out ${subject}, and pair as ${preview.subject}?`}
      lead={
        <>
          This browser is signed in as <b>{subject}</b>. The code is for{" "}
          <b>{preview.subject}</b>. A browser is one person at a time.
        </>
      }
    >
      <Ends
        items={[
          ["leave", `${subject} is signed out here, and open pages of ${subject} stop.`],
          ["stay", `${subject}’s other devices stay signed in. ${subject}’s runs go on.`]
        ]}
      />
      {facts}
      <div className="sp-acts">
        {pair(`Sign out ${subject} and pair as ${preview.subject}`)}
        <a className="sp-b" data-kind="second" href={continueTo}>Stay signed in as {subject}</a>
      </div>
    </Gate>
  )
}
