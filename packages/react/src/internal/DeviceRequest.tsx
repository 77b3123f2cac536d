import type { ConnectClientView } from "@sallyport/contract/ConnectGroup"
import type { ConnectClient } from "@sallyport/client/AccessFeed"
import type { ClientError } from "@sallyport/client/ClientError"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type ReactNode, type SyntheticEvent, useEffect, useRef, useState } from "react"
import { useActions, useConnectClients } from "../Hooks.ts"
import type { Services } from "../Store.ts"
import { CodeField, groups } from "./CodeField.tsx"
import { Ago, Button, Fault, Gate, type IconName, Left, Note, useNow, useSettled } from "./parts.tsx"
import { ScopeChoice, useScopeChoice } from "./ScopeChoice.tsx"
import { SignedIn } from "./SignedIn.tsx"
import * as Words from "./words.ts"

const length = 8

/** What became of a code. */
interface Told {
  readonly state: "bad" | "waiting"
  readonly icon: IconName
  readonly strong: string
  readonly text?: string
  /** Until when no code can be looked up. */
  readonly until?: DateTime.Utc
}

type State =
  | { readonly _tag: "Enter"; readonly told?: Told }
  | { readonly _tag: "Review"; readonly client: ConnectClientView }
  | { readonly _tag: "Done"; readonly decision: "approve" | "reject" | "block"; readonly label: string | null }

const unknown: Told = {
  state: "bad",
  icon: "bad",
  strong: "No device is waiting with this code.",
  text: "Compare it with the device’s screen. Codes change when a device starts over."
}

const expired: Told = {
  state: "bad",
  icon: "clock",
  strong: "This code has expired.",
  text: "Start again on the device, and enter the new code."
}

/** Says that a device was decided about by someone else, or before. */
const decidedAlready = ({ decidedBy, status }: {
  readonly status: string
  readonly decidedBy: string | null
}): Told => ({
  state: "waiting",
  icon: "done",
  strong: "This code was decided already.",
  text: `The device is ${status}${decidedBy === null ? "" : ` by ${Words.by(decidedBy)}`}.`
})

/** Says why a request was refused, if that says something about the code. `before` is the device that has shown it. */
const refused = (
  { reason }: ClientError,
  now: DateTime.Utc,
  before: ConnectClient | undefined
): Told | undefined => {
  switch (reason._tag) {
    case "NotFound":
      return reason.code === "connect_not_offered"
        ? { ...unknown, strong: "This server lets no device in by a code.", text: "Pair it with a link instead." }
        : before === undefined
        ? unknown
        : before.status === "pending"
        ? expired
        : decidedAlready(before)
    case "Conflict":
      return reason.code === "connect_request_expired"
        ? expired
        : { ...expired, strong: "The device has asked again since.", text: "Enter the code that it shows now." }
    case "TooManyRequests":
      return {
        state: "waiting",
        icon: "clock",
        strong: "Too many wrong codes.",
        until: DateTime.add(now, { seconds: reason.retryAfterSeconds ?? 60 })
      }
    default:
      return undefined
  }
}

/**
 * Lets a device in that shows a code (RFC 8628), for a session with the scope `connect:manage`: looks the code up, shows
 * what the device asks for, and grants that or less. A code in the address (`?user_code=`) stands in the field, and is
 * looked up and approved by the person alone.
 *
 * @category components
 * @since 0.1.0
 */
export const DeviceRequest = ({ connections = "connections", pair }: {
  /** The address of the page that lists the devices. Default `connections`. */
  readonly connections?: string | undefined
  /** The address of the page that pairs a browser. Default `pair`. */
  readonly pair?: string | undefined
}) => (
  <SignedIn pair={pair} title="Let a device in">
    {({ session }) =>
      session.scopes.includes("connect:manage")
        ? <Request connections={connections} />
        : (
          <Page>
            <Gate
              sign="barred"
              title="You cannot decide this"
              lead="Your session may not approve devices. Ask the owner to decide, or to let you."
            >
              <div className="sp-acts">
                <a className="sp-b" data-kind="second" href={connections}>See your devices</a>
              </div>
            </Gate>
          </Page>
        )}
  </SignedIn>
)

const Page = ({ children }: { readonly children: ReactNode }) => (
  <main className="sallyport sp-gates">
    {children}
    <p className="sp-foot">A device chooses its own name. The code on its screen is what proves it.</p>
  </main>
)

const Request = ({ connections }: { readonly connections: string }) => {
  const { clients, decide, find } = useConnectClients()
  const { act, busy, fault } = useActions()
  const now = useNow()
  const [state, setState] = useState<State>({ _tag: "Enter" })
  const [code, setCode] = useState("")
  const field = useRef<HTMLInputElement>(null)
  const isBusy = Option.isSome(busy)

  useEffect(() => {
    const given = new URLSearchParams(location.search).get("user_code")
    if (given !== null) setCode(groups(given.slice(0, 128), false))
  }, [])

  // A decision that is made elsewhere meanwhile is told here.
  const known = Option.getOrElse(clients, () => [])
  const reviewed = state._tag === "Review" ? state.client : undefined
  const live = known.find(({ proofKeyThumbprint }) => proofKeyThumbprint === reviewed?.proofKeyThumbprint)
  const isMine = isBusy || reviewed === undefined || live === undefined || live.status === "pending"
  useEffect(() => {
    if (!isMine && live !== undefined) setState({ _tag: "Enter", told: decidedAlready(live) })
  }, [isMine, live])

  const show = (next: Option.Option<State>) => {
    if (Option.isNone(next)) return
    setState(next.value)
    if (next.value._tag === "Enter") field.current?.focus()
  }
  /** Sends a request, and shows what became of it, unless it says nothing about the code that was shown. */
  const send = (name: string, request: Effect.Effect<State, ClientError, Services>, shown: string) =>
    act(
      name,
      request.pipe(
        Effect.catch((fault) =>
          Effect.flatMap(DateTime.now, (now) => {
            const told = refused(fault, now, known.find(({ verificationCode }) => verificationCode === shown))
            return told === undefined ? Effect.fail(fault) : Effect.succeed<State>({ _tag: "Enter", told })
          })
        )
      )
    ).then(show)
  const isHeld = state._tag === "Enter" && state.told?.until !== undefined &&
    Option.exists(now, DateTime.isLessThan(state.told.until))

  const look = (event: SyntheticEvent) => {
    event.preventDefault()
    const letters = code.replaceAll("-", "").length
    if (letters !== length) {
      setState({
        _tag: "Enter",
        told: {
          state: "bad",
          icon: "bad",
          strong: "This code is not complete.",
          text: `It has ${length} letters; you entered ${letters}.`
        }
      })
      return
    }
    void send("find", Effect.map(find(code), (client): State => ({ _tag: "Review", client })), groups(code, false))
  }
  const again = () => {
    setCode("")
    setState({ _tag: "Enter" })
  }

  switch (state._tag) {
    case "Enter": {
      const { told } = state
      return (
        <Page>
          <Gate
            sign={told === undefined ? "ask" : told.state === "bad" ? "barred" : "wait"}
            title="Let a device in"
            lead="Enter the code that the device shows: a terminal, a television, a machine without a browser."
          >
            <div role="alert">
              {told !== undefined && (
                <Note icon={told.icon} state={told.state}>
                  <strong>{told.strong}</strong> {told.until === undefined
                    ? told.text
                    : isHeld
                    ? (
                      <span aria-hidden="true">
                        You can try again in <Left at={told.until} now={now} />.
                      </span>
                    )
                    : "You can try again now."}
                </Note>
              )}
            </div>
            <Fault fault={fault} />
            <form className="sp-acts" onSubmit={look}>
              <CodeField
                ref={field}
                label="Code on the device"
                value={code}
                lengths={[length]}
                digits={false}
                invalid={told?.state === "bad"}
                hint="8 letters, as on the device."
                onChange={(code) => {
                  setCode(code)
                  if (told?.state === "bad") setState({ _tag: "Enter" })
                }}
                onPaste={(text) => text}
              />
              <Button type="submit" busy={isBusy} off={isHeld}>Look it up</Button>
            </form>
            <p className="sp-hint">Looking a code up lets no one in. You decide on the next page.</p>
          </Gate>
        </Page>
      )
    }
    case "Review":
      return (
        <Page>
          <Review
            key={state.client.verificationCode}
            client={state.client}
            busy={isBusy}
            fault={fault}
            now={now}
            onDecide={(decision, scopes) => {
              const { label, proofKeyThumbprint, verificationCode } = state.client
              // The code that was seen goes with the decision.
              const seen = { client: proofKeyThumbprint, code: verificationCode, scopes }
              void send(
                decision,
                Effect.map(decide(decision, seen), (): State => ({ _tag: "Done", decision, label })),
                verificationCode
              )
            }}
          />
        </Page>
      )
    case "Done": {
      const name = state.label === null ? "The device" : `“${state.label}”`
      return (
        <Page>
          {state.decision === "approve"
            ? (
              <Gate
                focused
                sign="open"
                title={`${name} is in`}
                lead="Go back to the device; it goes on by itself. You can close this page."
              >
                <div className="sp-acts">
                  <a className="sp-b" data-kind="second" href={connections}>See all devices</a>
                </div>
              </Gate>
            )
            : (
              <Gate
                focused
                sign="barred"
                title={`${name} was not let in`}
                lead={state.decision === "block"
                  ? "It is turned away, now and whenever it asks."
                  : "The device is told so. It can ask again with a new code."}
              >
                <div className="sp-acts">
                  <Button kind="second" onClick={again}>Enter another code</Button>
                </div>
              </Gate>
            )}
        </Page>
      )
    }
  }
}

/** Asks whether a device is the owner's, and what it may do. Its buttons take no click that was meant for what stood before. */
const Review = ({ busy, client, fault, now, onDecide }: {
  readonly busy: boolean
  readonly client: ConnectClientView
  readonly fault: Option.Option<ClientError>
  readonly now: Option.Option<DateTime.Utc>
  readonly onDecide: (
    decision: "approve" | "reject" | "block",
    scopes?: ConnectClientView["requestedScopes"]
  ) => void
}) => {
  const settled = useSettled()
  const { account, deviceType, label, pendingUntil, requestedAt, requestedScopes = [], verificationCode } = client
  const choice = useScopeChoice(requestedScopes)
  const { granted } = choice
  const buttons = { busy, wait: !settled }
  return (
    <Gate
      focused
      sign="ajar"
      title="Is this your device?"
      lead="Let it in only if its screen shows this code, and you have started it yourself."
    >
      <p className="sp-verify">
        <span>Its screen must show</span>
        <b>{verificationCode}</b>
      </p>
      <Note icon="bad" state="waiting">
        <strong>Did someone send you this code?</strong> Then reject it. It would let them in as you.
      </Note>
      <dl className="sp-facts">
        <dt>Calls itself</dt>
        <dd>
          {Words.quoted(label)}
          {deviceType !== "unknown" && `, ${deviceType}`}
        </dd>
        <dt>Program</dt>
        <dd>{account}</dd>
        <dt>Asked</dt>
        <dd>
          <Ago at={requestedAt} now={now} />
          {pendingUntil !== null && (
            <small>
              The request ends in <Left at={pendingUntil} now={now} />.
            </small>
          )}
        </dd>
      </dl>
      <ScopeChoice choice={choice} legend="What it may do" />
      <Fault fault={fault} />
      <div className="sp-acts" data-two>
        <Button {...buttons} off={granted.length === 0} onClick={() => onDecide("approve", granted)}>Let it in</Button>
        <Button {...buttons} kind="second" onClick={() => onDecide("reject")}>Reject</Button>
      </div>
      <Button {...buttons} kind="quiet" onClick={() => onDecide("block")}>Block it from asking again</Button>
    </Gate>
  )
}
