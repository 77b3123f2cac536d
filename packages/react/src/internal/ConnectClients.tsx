import type { ConnectClient } from "@sallyport/client/AccessFeed"
import type { DecisionOptions } from "@sallyport/client/Approval"
import { AccessScope } from "@sallyport/core/access/AccessScope"
import type * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { useEffect, useRef, useState } from "react"
import { useActions, useConnectClients, useSnapshot } from "../Hooks.ts"
import {
  Ago,
  Button,
  DeviceIcon,
  Dialog,
  Doing,
  Empty,
  Ends,
  Entry,
  Fault,
  Id,
  Left,
  Note,
  Section,
  useNow,
  useScopes,
  useSettled
} from "./parts.tsx"
import { ScopeChoice, useScopeChoice } from "./ScopeChoice.tsx"
import * as Words from "./words.ts"

const isScope = Schema.is(AccessScope)

type Mode = "client-approval" | "account"

/**
 * Shows the clients that wait for a decision, the approval mode, and the clients that were decided about, whatever the
 * address of the server is. A mode that the server did not say is shown as unknown, and cannot be overwritten.
 *
 * @category components
 * @since 0.1.0
 */
export const ConnectClients = () => (
  <>
    <WaitingClients />
    <ApprovalMode />
  </>
)

/** Shows the clients that wait, each with the code that its screen must show; nothing if none waits. */
export const WaitingClients = () => {
  const { clients, decide } = useConnectClients()
  const { act, busy, clear, fault } = useActions()
  const now = useNow()
  const [blocked, setBlocked] = useState<ConnectClient>()
  const [reason, setReason] = useState("")
  const waiting = Option.getOrElse(clients, () => []).filter(({ status }) => status === "pending")
  const isBusy = Option.isSome(busy)
  const close = () => {
    setBlocked(undefined)
    clear()
  }
  async function finish(done: Promise<Option.Option<unknown>>) {
    if (Option.isSome(await done)) close()
  }
  if (waiting.length === 0 && blocked === undefined && Option.isNone(fault)) return null
  return (
    <>
      <Section
        id="waiting"
        title="Waiting for you"
        words="Waiting"
        count={waiting.length}
        waits
        lead="Approve a device only if its own screen shows the same code."
      >
        {blocked === undefined && <Fault fault={fault} />}
        <ul>
          {waiting.map((client) => (
            <WaitCard
              // A request that is made again is another card.
              key={`${client.proofKeyThumbprint} ${client.verificationCode}`}
              client={client}
              now={now}
              busy={isBusy}
              onDecide={(decision, seen) => act(decision, decide(decision, seen))}
              onBlock={() => {
                setReason("")
                setBlocked(client)
              }}
            />
          ))}
        </ul>
      </Section>
      {blocked !== undefined && (
        <Dialog role="alertdialog" title={`Block ${Words.quoted(blocked.label)}?`} onClose={close}>
          <Ends
            items={[
              ["cut", "It is turned away now, and every time it asks, without you being asked."],
              ["stay", `Other devices of ${blocked.account} can still ask.`]
            ]}
          />
          <label className="sp-field">
            <span>Why (optional, for the activity)</span>
            <input
              className="sp-in"
              value={reason}
              maxLength={256}
              autoComplete="off"
              onChange={(event) =>
                setReason(event.target.value)}
            />
          </label>
          <Fault fault={fault} />
          <div className="sp-da">
            <Button kind="second" data-autofocus onClick={close}>Don’t block</Button>
            <Button
              kind="danger"
              busy={isBusy}
              onClick={() =>
                finish(act(
                  "block",
                  decide("block", {
                    client: blocked.proofKeyThumbprint,
                    code: blocked.verificationCode,
                    ...(reason.trim() === "" ? {} : { reason: reason.trim() })
                  })
                ))}
            >
              Block {Words.quoted(blocked.label)}
            </Button>
          </div>
        </Dialog>
      )}
    </>
  )
}

/** Shows a client that waits. Its buttons take no click that was meant for what stood there a moment ago. */
const WaitCard = ({ busy, client, now, onBlock, onDecide }: {
  readonly client: ConnectClient
  readonly now: Option.Option<DateTime.Utc>
  readonly busy: boolean
  readonly onDecide: (decision: "approve" | "reject", seen: DecisionOptions) => void
  readonly onBlock: () => void
}) => {
  const settled = useSettled()
  const {
    account,
    deviceType,
    label,
    pendingUntil,
    proofKeyThumbprint,
    requestedAt,
    requestedScopes,
    verificationCode
  } = client
  const choice = useScopeChoice(requestedScopes ?? [])
  const { granted } = choice
  const givesNothing = requestedScopes !== undefined && granted.length === 0
  // The code that was seen goes with the decision: a request that was made again is not approved by an old click.
  const seen = { client: proofKeyThumbprint, code: verificationCode }
  return (
    <Entry className="sp-ask">
      <div>
        <p className="sp-name">
          <span>{Words.quoted(label)}</span>
          {deviceType !== "unknown" && <span className="sp-tag">{deviceType}</span>}
        </p>
        <p className="sp-meta">
          <span>{requestedScopes === undefined ? "Account" : "Program"} {account}</span>
          <span>
            asked <Ago at={requestedAt} now={now} />
          </span>
          {pendingUntil !== null && (
            <span>
              request ends in <Left at={pendingUntil} now={now} />
            </span>
          )}
          <Id id={proofKeyThumbprint} />
        </p>
      </div>
      <p className="sp-verify">
        <span>Its screen must show</span>
        <b>{verificationCode}</b>
      </p>
      {requestedScopes !== undefined && (
        <details className="sp-fold sp-wide">
          <summary>
            {givesNothing ? "It would do nothing." : (
              <>
                It may <Doing scopes={granted} />.
              </>
            )} Change
          </summary>
          <ScopeChoice choice={choice} legend="What it may do" />
        </details>
      )}
      <div className="sp-row">
        <Button
          busy={busy}
          off={givesNothing}
          wait={!settled}
          onClick={() =>
            onDecide("approve", requestedScopes === undefined ? seen : { ...seen, scopes: granted.filter(isScope) })}
        >
          Approve
        </Button>
        <Button kind="second" busy={busy} wait={!settled} onClick={() => onDecide("reject", seen)}>Reject</Button>
        <Button
          kind="quiet"
          busy={busy}
          wait={!settled}
          onClick={onBlock}
        >
          Block
        </Button>
      </div>
    </Entry>
  )
}

/** Shows which clients may ask, and those that were decided about. */
export const ApprovalMode = () => {
  const { askMode, clients, decide, mode, setMode } = useConnectClients()
  const { act, busy, clear, fault } = useActions()
  const { access } = useSnapshot()
  const mayManage = useScopes().includes("connect:manage")
  const now = useNow()
  const [question, setQuestion] = useState<"trust" | "account">()
  const [trusted, setTrusted] = useState<ReadonlyArray<string>>([])
  const [answered, setAnswered] = useState(Option.none<string>())
  const isTold = Option.isSome(mode)
  // What the server said before it was known does not hold once the feed has told.
  useEffect(() => {
    if (isTold) setAnswered(Option.none())
  }, [isTold])
  const known = Option.filter(
    Option.orElse(mode, () => answered),
    (mode): mode is Mode => mode === "client-approval" || mode === "account"
  )
  // An arrow moves the focus to a choice before it is made, which it may not be.
  const modes = useRef<HTMLFieldSetElement>(null)
  const chosen = Option.getOrUndefined(known)
  useEffect(() => {
    if (question !== undefined || modes.current?.contains(document.activeElement) !== true) return
    modes.current.querySelector<HTMLElement>("input:checked")?.focus()
  }, [question, chosen])
  if (!mayManage || Option.isNone(access)) return null
  if (Option.isNone(clients)) {
    return (
      <Section id="who" title="Who may ask to connect" words="Who may ask">
        <Empty title="This server takes no devices through a relay.">
          <code>sallyport connect link</code> sets it up.
        </Empty>
      </Section>
    )
  }
  const observed = clients.value.filter(({ status }) => status === "observed")
  const decided = clients.value.filter(({ status }) => status !== "pending" && status !== "observed")
  const isBusy = Option.isSome(busy)

  const ask = (question: "trust" | "account") => {
    setQuestion(question)
    setTrusted(observed.map(({ proofKeyThumbprint }) => proofKeyThumbprint))
  }
  const close = () => {
    setQuestion(undefined)
    clear()
  }
  const change = async (mode: Mode, trust?: ReadonlyArray<string>) => {
    const set = await act(mode, setMode(mode, trust))
    if (Option.isSome(set)) close()
  }
  const choose = (value: Mode) => {
    if (value === "account") ask("account")
    else if (observed.length > 0) ask("trust")
    else void change(value)
  }
  const radio = (value: Mode, title: string, text: string) => (
    <label className="sp-mode">
      <input
        type="radio"
        name="approval-mode"
        disabled={Option.isNone(known)}
        aria-disabled={isBusy}
        checked={Option.contains(known, value)}
        onChange={() => isBusy ? undefined : choose(value)}
      />
      <span>
        <b>{title}</b>
        <small>{text}</small>
      </span>
    </label>
  )
  return (
    <>
      <Section
        id="who"
        title="Who may ask to connect"
        words="Who may ask"
        lead="For devices that come through your relay account. This holds also if the server is not on the local network."
      >
        {question === undefined && <Fault fault={fault} />}
        <fieldset ref={modes} className="sp-modes">
          <legend className="sp-vh">Who may ask to connect</legend>
          {radio(
            "client-approval",
            "Only devices that I approve",
            "A new device waits here, with a code, until you decide."
          )}
          {radio(
            "account",
            "Every device of my account",
            "A device that gets into the account gets in here. You can still revoke and block."
          )}
        </fieldset>
        {Option.isNone(known) && (
          <div role="status">
            <Note state="waiting" icon="bad">
              <strong>The server did not say which of these holds.</strong>{" "}
              Neither is shown as chosen, and nothing is changed.{" "}
              <Button kind="inline" busy={isBusy} onClick={() => act("mode", askMode).then(setAnswered)}>
                Ask again
              </Button>
            </Note>
          </div>
        )}
        {decided.length > 0 && (
          <details className="sp-fold">
            <summary>{Words.decided(decided.map(({ status }) => status))}</summary>
            <ul className="sp-list">
              {decided.map(({
                account,
                decidedAt,
                decidedBy,
                deviceType,
                grantedScopes,
                label,
                proofKeyThumbprint,
                reason,
                requestedScopes = [],
                status
              }) => (
                <li key={proofKeyThumbprint} className="sp-item">
                  <DeviceIcon kind={deviceType} />
                  <div>
                    <p className="sp-name">
                      <span>{Words.quoted(label)}</span>
                    </p>
                    <p className="sp-meta">
                      <span>{account}</span>
                      <Id id={proofKeyThumbprint} />
                      <span>
                        {status}
                        {decidedAt === null ? "" : ` on ${Words.day(decidedAt)}`}
                        {decidedBy === null ? "" : ` by ${Words.by(decidedBy)}`}
                        {reason === null ? "" : `: “${reason}”`}
                      </span>
                      {grantedScopes !== undefined && (
                        <span>
                          let in to <Doing scopes={grantedScopes} />
                          {Words.isLess(grantedScopes, requestedScopes) && (
                            <>
                              ; it asked to <Doing scopes={requestedScopes} />
                            </>
                          )}
                        </span>
                      )}
                    </p>
                  </div>
                  <div className="sp-do">
                    {status === "approved" && (
                      <Button
                        kind="row"
                        busy={isBusy}
                        aria-label={`Revoke ${Words.quoted(label)}`}
                        onClick={() => act("revoke", decide("revoke", { client: proofKeyThumbprint }))}
                      >
                        Revoke
                      </Button>
                    )}
                  </div>
                </li>
              ))}
            </ul>
          </details>
        )}
      </Section>
      {question === "account" && (
        <Dialog role="alertdialog" title="Every device of the account?" onClose={close}>
          <p>A device that gets into the account gets in here, without a question. Blocked devices stay blocked.</p>
          <Fault fault={fault} />
          <div className="sp-da">
            <Button kind="second" data-autofocus onClick={close}>Keep asking me</Button>
            <Button kind="danger" busy={isBusy} onClick={() => change("account")}>
              Let every device of the account in
            </Button>
          </div>
        </Dialog>
      )}
      {question === "trust" && (
        <Dialog title="Only approved devices, from now on" onClose={close}>
          <p className="sp-hint">
            {Words.count(observed.length, "device")} came in by {observed.length === 1 ? "its" : "their"}{" "}
            account alone. Which of them stay?
          </p>
          <div className="sp-checks">
            {observed.map(({ account, deviceType, label, lastSeenAt, proofKeyThumbprint }) => (
              <label key={proofKeyThumbprint} className="sp-check">
                <input
                  type="checkbox"
                  checked={trusted.includes(proofKeyThumbprint)}
                  onChange={({ target }) =>
                    setTrusted((trusted) =>
                      target.checked
                        ? [...trusted, proofKeyThumbprint]
                        : trusted.filter((other) =>
                          other !== proofKeyThumbprint
                        )
                    )}
                />
                <span>
                  {Words.quoted(label)}
                  <small>
                    {deviceType}, {account}, <Id id={proofKeyThumbprint} />
                    {lastSeenAt !== null && (
                      <>
                        , seen <Ago at={lastSeenAt} now={now} />
                      </>
                    )}
                  </small>
                </span>
              </label>
            ))}
          </div>
          <p className="sp-hint">The others have to ask, and wait for you.</p>
          <Fault fault={fault} />
          <div className="sp-da">
            <Button kind="second" data-autofocus onClick={close}>Cancel</Button>
            <Button busy={isBusy} onClick={() => change("client-approval", trusted)}>
              Approve {trusted.length}, and ask the rest
            </Button>
          </div>
        </Dialog>
      )}
    </>
  )
}
