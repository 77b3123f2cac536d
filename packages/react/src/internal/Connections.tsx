import * as Access from "@sallyport/client/Access"
import type { AccessView, Device } from "@sallyport/client/AccessFeed"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { type ReactNode, useState } from "react"
import { useActions, useConnectClients, useConnections, useSnapshot } from "../Hooks.ts"
import { Ago, Button, Dialog, Empty, Fault, Left, Section, useNow } from "./parts.tsx"
import * as Words from "./words.ts"

/** Renders what is below once the server has told who has access. */
const Known = ({ children }: { readonly children: (view: AccessView) => ReactNode }) => {
  const { access } = useSnapshot()
  return Option.isSome(access) ? children(access.value) : <p role="status">Looking at who has access…</p>
}

const lastSeen = ({ lastSeenAt }: Device) => -lastSeenAt.epochMilliseconds

/**
 * Lists the devices that are signed in, this one first, and revokes the others after a question that says what ends.
 *
 * @category components
 * @since 0.1.0
 */
export const Devices = () => <Known>{(view) => <DeviceList view={view} />}</Known>

const DeviceList = ({ view }: { readonly view: AccessView }) => {
  const { revoke, revokeOthers } = useConnections()
  const { act, busy, clear, fault } = useActions()
  const now = useNow()
  const [asked, setAsked] = useState<Device | "others">()
  const [descendants, setAlsoLetIn] = useState(false)
  const [told, setTold] = useState("")
  const own = view.devices.filter(({ current }) => current)
  const others = view.devices.filter(({ current }) => !current).sort((a, b) => lastSeen(a) - lastSeen(b))
  const subject = own[0]?.subject
  const mine = others.filter((device) => device.subject === subject)
  const close = () => {
    setAsked(undefined)
    setAlsoLetIn(false)
    clear()
  }
  async function end<A>(name: string, effect: Parameters<typeof act<A>>[1], done: (answer: A) => string) {
    const answer = await act(name, effect)
    if (Option.isNone(answer)) return
    setTold(done(answer.value))
    close()
    document.getElementById("devices-h")?.focus()
  }
  const row = (device: Device) => {
    const name = Words.deviceName(device.device)
    return (
      <li key={device.id} className="sp-item" data-state={device.current ? "current" : "other"}>
        <div>
          <p className="sp-name">
            <span>{name}</span>
            {device.current && <span className="sp-tag">This device</span>}
          </p>
          <p className="sp-meta">
            <span>
              Seen <Ago at={device.lastSeenAt} now={now} />
            </span>
            {device.device.address !== null && <span>{device.device.address}</span>}
            {device.subject !== subject && <span>of {device.subject}</span>}
            <span>{Words.may(device.scopes)}</span>
          </p>
        </div>
        {device.current
          ? (
            <Button
              kind="row"
              busy={Option.isSome(busy)}
              onClick={() => act("logout", Access.Access.use((access) => access.logout))}
            >
              Sign out
            </Button>
          )
          : (
            <Button kind="row" aria-label={`Revoke ${name}`} onClick={() => setAsked(device)}>
              Revoke
            </Button>
          )}
      </li>
    )
  }
  return (
    <Section
      id="devices"
      title="Devices"
      lead="Signed in now."
      action={mine.length > 1 && (
        <Button kind="second" onClick={() => setAsked("others")}>
          Revoke all others…
        </Button>
      )}
    >
      <p role="status" className="sp-told">{told}</p>
      <ul className="sp-list">{own.map(row)}</ul>
      {others.length === 0
        ? <Empty title="No other device is in.">Let your phone in, and you can watch your runs from there.</Empty>
        : <ul className="sp-list">{others.map(row)}</ul>}
      {asked === "others" && (
        <Dialog role="alertdialog" title={`Revoke the ${mine.length} other devices?`} onClose={close}>
          <p>
            {mine.map(({ device }) =>
              Words.deviceName(device)
            ).join(", ")}{" "}
            are signed out at once, and their open links stop working. You stay signed in here. Runs go on.
          </p>
          <Fault fault={fault} />
          <div className="sp-da">
            <Button kind="second" data-autofocus onClick={close}>Keep them</Button>
            <Button
              kind="danger"
              busy={Option.isSome(busy)}
              onClick={() =>
                end("others", revokeOthers, (count) => `${count} devices were revoked.`)}
            >
              Revoke {mine.length} devices
            </Button>
          </div>
        </Dialog>
      )}
      {asked !== undefined && asked !== "others" && (
        <Dialog role="alertdialog" title={`Revoke ${Words.deviceName(asked.device)}?`} onClose={close}>
          {view.devices.some(({ id }) =>
              id === asked.id
            )
            ? <p>It is signed out at once, and its open links stop working. Runs that it started go on.</p>
            : <p role="status">It was revoked already.</p>}
          <label className="sp-check">
            <input
              type="checkbox"
              checked={descendants}
              onChange={(event) =>
                setAlsoLetIn(event.target.checked)}
            />
            <span>Also revoke what it let in</span>
          </label>
          <p className="sp-hint">This cannot be undone. The device needs a new code to come back.</p>
          <Fault fault={fault} />
          <div className="sp-da">
            <Button kind="second" data-autofocus onClick={close}>Keep it</Button>
            <Button
              kind="danger"
              busy={Option.isSome(busy)}
              onClick={() =>
                end(
                  "revoke",
                  revoke(asked.id, { descendants }),
                  () => `${Words.deviceName(asked.device)} was revoked.`
                )}
            >
              Revoke {Words.deviceName(asked.device)}
            </Button>
          </div>
        </Dialog>
      )}
    </Section>
  )
}

/**
 * Lists the open pairing links, and withdraws them.
 *
 * @category components
 * @since 0.1.0
 */
export const PairingLinks = () => <Known>{(view) => <LinkList view={view} />}</Known>

const LinkList = ({ view }: { readonly view: AccessView }) => {
  const { revokeLink } = useConnections()
  const { act, busy, fault } = useActions()
  const now = useNow()
  return (
    <Section id="links" title="Open links" lead="Each lets in the device that has it, until it is used or ends.">
      <Fault fault={fault} />
      {view.links.length === 0
        ? <Empty title="No link is open.">No device can get in with a code right now.</Empty>
        : (
          <ul className="sp-list">
            {view.links.map((link) => (
              <li key={link.id} className="sp-item">
                <div>
                  <p className="sp-name">
                    <span>{link.label ?? "Link without a name"}</span>
                  </p>
                  <p className="sp-meta">
                    <span>
                      ends in <Left at={link.expiresAt} now={now} />
                    </span>
                    <span>
                      {link.remainingUses === 1 ? "for one device" : `for ${link.remainingUses} more devices`}
                    </span>
                    <span>{Words.may(link.scopes)}</span>
                  </p>
                </div>
                <Button
                  kind="row"
                  aria-label={`Withdraw ${Words.linkName(link.label)}`}
                  busy={Option.isSome(busy)}
                  onClick={() => act(link.id, revokeLink(link.id))}
                >
                  Withdraw
                </Button>
              </li>
            ))}
          </ul>
        )}
    </Section>
  )
}

const presets = {
  "Only watch": ["runs:read"],
  "Watch and run": ["runs:read", "runs:operate"]
} as const

const lifetimes = {
  "10 minutes": Duration.minutes(10),
  "1 hour": Duration.hours(1),
  "1 day": Duration.days(1)
} as const

/**
 * Makes a link for another device, and shows its code until the link is used, withdrawn or over.
 *
 * @category components
 * @since 0.1.0
 */
export const LetIn = () => {
  const { issueLink, revokeLink, view } = useConnections()
  const { session } = useSnapshot()
  const { act, busy, clear, fault } = useActions()
  const now = useNow()
  const [open, setOpen] = useState(false)
  const [preset, setPreset] = useState("Watch and run")
  const [lifetime, setLifetime] = useState("10 minutes")
  const [label, setLabel] = useState("")
  const [issued, setIssued] = useState<Access.IssuedLink>()
  const [copied, setCopied] = useState("")
  const held: ReadonlyArray<string> = Option.match(session, {
    onNone: () => [],
    onSome: (state) => state.authenticated ? state.session.scopes : []
  })
  const offered = Object.entries(presets).filter(([, scopes]) => scopes.every((scope) => held.includes(scope)))
  const chosen = offered.find(([name]) => name === preset)
  // By the link's id, never by comparing lists of devices. The change that removed it says why.
  const ending = issued === undefined ? Option.none() : Option.flatMap(view, ({ changes }) =>
    Option.fromUndefinedOr(
      changes.flatMap((change) =>
        change.event === "pairingLinkRemoved" && change.data.id === issued.link.id ? [change.data.reason] : []
      )[0]
    ))
  const over = issued !== undefined &&
    Option.exists(now, (now) => DateTime.isLessThanOrEqualTo(issued.link.expiresAt, now))
  const close = () => {
    setOpen(false)
    setIssued(undefined)
    setCopied("")
    setLabel("")
    clear()
  }
  const copy = (text: string) =>
    navigator.clipboard.writeText(text).then(
      () => setCopied("Copied."),
      () => setCopied("The browser did not let the page copy. Select the code, and copy it by hand.")
    )
  const make = async () => {
    const [name] = Object.keys(lifetimes).filter((name) => name === lifetime)
    const answer = await act(
      "make",
      issueLink({
        lifetime: name === "1 day"
          ? lifetimes["1 day"]
          : name === "1 hour"
          ? lifetimes["1 hour"]
          : lifetimes["10 minutes"],
        ...(chosen === undefined ? {} : { scopes: chosen[1] }),
        ...(label.trim() === "" ? {} : { label: label.trim() })
      })
    )
    if (Option.isSome(answer)) setIssued(answer.value)
  }
  const radios = (name: string, values: ReadonlyArray<string>, value: string, set: (value: string) => void) => (
    <fieldset className="sp-field">
      <legend>{name}</legend>
      <div className="sp-seg">
        {values.map((each) => (
          <label key={each}>
            <input
              type="radio"
              name={name}
              checked={each === value}
              onChange={() => set(each)}
            />
            {each}
          </label>
        ))}
      </div>
    </fieldset>
  )
  return (
    <>
      <Button onClick={() => setOpen(true)}>Let another device in</Button>
      {open && issued === undefined && (
        <Dialog title="Let another device in" onClose={close}>
          {radios(
            "What it may do",
            [...offered.map(([name]) => name), "All I may"],
            chosen?.[0] ?? "All I may",
            setPreset
          )}
          {radios("The link works for", Object.keys(lifetimes), lifetime, setLifetime)}
          <label className="sp-field">
            <span>Name (optional)</span>
            <input
              className="sp-in"
              value={label}
              maxLength={128}
              autoComplete="off"
              onChange={(event) => setLabel(event.target.value)}
            />
          </label>
          <Fault fault={fault} />
          <div className="sp-da">
            <Button kind="second" onClick={close}>Cancel</Button>
            <Button busy={Option.isSome(busy)} onClick={make}>Make the link</Button>
          </div>
        </Dialog>
      )}
      {open && issued !== undefined && (
        <Dialog
          title={Option.match(ending, {
            onNone: () => over ? "The link has ended" : "Enter this code on the other device",
            onSome: (reason) => reason === "consumed" ? "The device is in" : "The link has ended"
          })}
          onClose={close}
        >
          {Option.isNone(ending) && !over
            ? (
              <>
                <p>The device that has it can get in, once. It is shown only here and now.</p>
                <p className="sp-code">{Redacted.value(issued.code)}</p>
                <div className="sp-row">
                  <Button kind="second" onClick={() => copy(Redacted.value(issued.code))}>Copy the code</Button>
                  <span role="status">{copied}</span>
                </div>
                <p role="status" className="sp-note" data-state="waiting">
                  Waiting for the device.{" "}
                  <span aria-hidden="true">
                    <Left at={issued.link.expiresAt} now={now} /> left.
                  </span>
                </p>
              </>
            )
            : (
              <p
                role="status"
                className="sp-note"
                data-state={Option.contains(ending, "consumed") ? "good" : "waiting"}
              >
                {Option.match(ending, {
                  onNone: () => "No device used it. The code does not work any more.",
                  onSome: (reason) =>
                    reason === "consumed"
                      ? "It used the link just now. The link is used up. Not the device you meant? Revoke it in the list."
                      : reason === "revoked"
                      ? "The link was withdrawn. Make a new one if you still need it."
                      : "No device used it. The code does not work any more."
                })}
              </p>
            )}
          <Fault fault={fault} />
          <div className="sp-da">
            {Option.isNone(ending) && !over && (
              <Button
                kind="quiet"
                busy={Option.isSome(busy)}
                onClick={() => act("withdraw", Effect.asVoid(revokeLink(issued.link.id)))}
              >
                Withdraw this link
              </Button>
            )}
            <Button data-autofocus onClick={close}>Done</Button>
          </div>
        </Dialog>
      )}
    </>
  )
}

/**
 * Shows the clients that wait for a decision, the approval mode, and the clients that were decided about. A mode that the
 * server did not say is shown as unknown, and cannot be overwritten.
 *
 * @category components
 * @since 0.1.0
 */
export const ConnectClients = () => {
  const { clients, decide, mode, setMode } = useConnectClients()
  const { act, busy, fault } = useActions()
  const now = useNow()
  if (Option.isNone(clients)) return null
  const known = Option.filter(mode, (mode) => mode === "client-approval" || mode === "account")
  const waiting = clients.value.filter(({ status }) => status === "pending")
  const decided = clients.value.filter(({ status }) => status !== "pending")
  const isBusy = Option.isSome(busy)
  const choose = (value: "client-approval" | "account", title: string, text: string) => (
    <label className="sp-mode">
      <input
        type="radio"
        name="approval-mode"
        disabled={Option.isNone(known)}
        checked={Option.contains(known, value)}
        onChange={() => void act(value, setMode(value))}
      />
      <span>
        <b>{title}</b>
        <small>{text}</small>
      </span>
    </label>
  )
  return (
    <>
      {waiting.length > 0 && (
        <Section
          id="waiting"
          title="Waiting for you"
          lead="Approve a device only if its own screen shows the same code."
        >
          <Fault fault={fault} />
          <ul>
            {waiting.map(({ account, label, pendingUntil, proofKeyThumbprint, requestedAt, verificationCode }) => {
              const seen = { client: proofKeyThumbprint, code: verificationCode }
              return (
                <li key={proofKeyThumbprint} className="sp-ask">
                  <div>
                    <p className="sp-name">{Words.quoted(label)}</p>
                    <p className="sp-meta">
                      <span>Account {account}</span>
                      <span>
                        asked <Ago at={requestedAt} now={now} />
                      </span>
                      {pendingUntil !== null && (
                        <span>
                          request ends in <Left at={pendingUntil} now={now} />
                        </span>
                      )}
                    </p>
                  </div>
                  <p className="sp-verify">
                    <span>Its screen must show</span>
                    <b>{verificationCode}</b>
                  </p>
                  <div className="sp-row">
                    <Button busy={isBusy} onClick={() => act("approve", decide("approve", seen))}>Approve</Button>
                    <Button
                      kind="second"
                      busy={isBusy}
                      onClick={() => act("reject", decide("reject", seen))}
                    >
                      Reject
                    </Button>
                    <Button kind="quiet" busy={isBusy} onClick={() => act("block", decide("block", seen))}>
                      Block
                    </Button>
                  </div>
                </li>
              )
            })}
          </ul>
        </Section>
      )}
      <Section id="who" title="Who may ask to connect" lead="For devices that come through your relay account.">
        {waiting.length === 0 && <Fault fault={fault} />}
        <fieldset className="sp-modes">
          <legend className="sp-vh">Who may ask to connect</legend>
          {choose(
            "client-approval",
            "Only devices that I approve",
            "A new device waits here, with a code, until you decide."
          )}
          {choose(
            "account",
            "Every device of my account",
            "A device that gets into the account gets in here. You can still revoke and block."
          )}
        </fieldset>
        {Option.isNone(known) && (
          <p role="status" className="sp-note" data-state="waiting">
            <strong>The server did not say which of these holds.</strong>{" "}
            Neither is shown as chosen, and nothing is changed.
          </p>
        )}
        {decided.length > 0 && (
          <ul className="sp-list">
            {decided.map(({ account, label, proofKeyThumbprint, status }) => (
              <li key={proofKeyThumbprint} className="sp-item">
                <div>
                  <p className="sp-name">{Words.quoted(label)}</p>
                  <p className="sp-meta">
                    <span>{status}</span>
                    <span>{account}</span>
                  </p>
                </div>
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
              </li>
            ))}
          </ul>
        )}
      </Section>
    </>
  )
}

/**
 * Lists the changes of access since the page was opened, the newest first.
 *
 * @category components
 * @since 0.1.0
 */
export const AuditTrail = () => (
  <Known>
    {({ changes }) => (
      <Section id="activity" title="Activity" lead="Every change of access since this page was opened, by its actor.">
        {changes.length === 0
          ? <Empty title="Nothing has changed yet.">A change made anywhere shows here at once.</Empty>
          : (
            <ol className="sp-list sp-trail">
              {changes.map((change) => (
                <li key={change.data.revision}>
                  <time dateTime={DateTime.formatIso(change.data.at)}>
                    {DateTime.formatLocal(change.data.at, { hour: "2-digit", minute: "2-digit" })}
                  </time>
                  <span>{Words.sentence(change)}</span>
                </li>
              ))}
            </ol>
          )}
      </Section>
    )}
  </Known>
)

/**
 * Shows who has access and lets the owner change it: the devices, the open links, the clients of the relay and the
 * activity, live.
 *
 * @category components
 * @since 0.1.0
 */
export const Connections = () => {
  const { access, ended, fault, session } = useSnapshot()
  if (Option.isNone(session)) {
    return (
      <main className="sallyport">
        <p role="status">
          {Option.isSome(fault) ? "The server does not answer. Trying again by itself." : "Looking at your session…"}
        </p>
      </main>
    )
  }
  if (!session.value.authenticated) {
    return (
      <main className="sallyport">
        <h1>{ended ? "This device was signed out" : "This browser is not paired"}</h1>
        <p role="status">
          {ended ? "It was revoked, or its session ended. " : ""}Pair it with a code that the server or a paired device
          shows.
        </p>
        <a className="sp-b" data-kind="primary" href="pair">Enter a code</a>
      </main>
    )
  }
  const { scopes } = session.value.session
  if (!scopes.includes("access:read")) {
    return (
      <main className="sallyport">
        <h1>You cannot see the connections</h1>
        <p>Your session may not look at devices and activity. Ask the owner, or pair with a code that allows it.</p>
      </main>
    )
  }
  const live = Option.exists(access, ({ connected }) => connected)
  return (
    <main className="sallyport">
      <header className="sp-head">
        <div>
          <h1>Connections</h1>
          <p className="sp-live" role="status" data-state={live ? "live" : "lost"}>
            {live
              ? "Live"
              : Option.isSome(access)
              ? "The connection is lost. What you see may have changed. Trying again by itself."
              : "Connecting…"}
          </p>
        </div>
        {scopes.includes("access:write") && <LetIn />}
      </header>
      <ConnectClients />
      <Devices />
      <PairingLinks />
      <AuditTrail />
    </main>
  )
}
