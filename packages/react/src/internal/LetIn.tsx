import type * as Access from "@sallyport/client/Access"
import type { ClientError } from "@sallyport/client/ClientError"
import { isLoopback } from "@sallyport/core/access/AuthPolicy"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { useMemo, useRef, useState } from "react"
import { encode } from "uqr"
import { useActions, useConnections, useSnapshot, useStore } from "../Hooks.ts"
import {
  Button,
  Dialog,
  Doing,
  Ends,
  Fault,
  Icon,
  Left,
  Note,
  ScopeName,
  useNow,
  useServer,
  useSettled
} from "./parts.tsx"
import * as Words from "./words.ts"

const presets = {
  "Only watch": ["runs:read"],
  "Watch and run": ["runs:read", "runs:operate"]
} as const

const stays: Readonly<Record<string, Pick<Access.LinkOptions, "sessionAbsoluteLifetime">>> = {
  "1 day": { sessionAbsoluteLifetime: Duration.days(1) },
  "30 days": { sessionAbsoluteLifetime: Duration.days(30) },
  "While it is used": {}
}

const lifetimes: Readonly<Record<string, Duration.Duration>> = {
  "5 minutes": Duration.minutes(5),
  "20 minutes": Duration.minutes(20),
  "1 hour": Duration.hours(1)
}

const chooseOne = "One by one"
const all = "All I may"

/** Draws the modules of a QR code as one path. */
const QrCode = ({ text }: { readonly text: string }) => {
  const { path, size } = useMemo(() => {
    const { data, size } = encode(text, { ecc: "M", border: 2 })
    return {
      size,
      path: data.flatMap((row, y) => row.flatMap((isDark, x) => isDark ? [`M${x} ${y}h1v1h-1z`] : [])).join("")
    }
  }, [text])
  return (
    <svg
      className="sp-qr-code"
      viewBox={`0 0 ${size} ${size}`}
      shapeRendering="crispEdges"
      role="img"
      aria-label="QR code of the pairing address"
    >
      <path d={path} />
    </svg>
  )
}

const shownFor = Duration.seconds(2)

/** Shows a text that is copied by a button, or by hand if the browser does not let the page. */
const Copied = ({ label, name, text }: { readonly label: string; readonly name: string; readonly text: string }) => {
  const store = useStore()
  const code = useRef<HTMLElement>(null)
  const [told, setTold] = useState("")
  const copy = async () => {
    // A page without https has no clipboard; the older command copies what is selected.
    const written = await Promise.resolve(navigator.clipboard?.writeText(text)).then(
      () => navigator.clipboard !== undefined,
      () => false
    )
    if (!written && code.current !== null) {
      getSelection()?.selectAllChildren(code.current)
      if (!document.execCommand("copy")) {
        setTold("The browser did not let the page copy. The text is selected: copy it by hand.")
        return
      }
    }
    setTold("Copied")
    store.watch(Effect.andThen(Effect.sleep(shownFor), Effect.sync(() => setTold(""))))
  }
  return (
    <div>
      <p className="sp-label">{label}</p>
      <p className="sp-copy">
        <code ref={code}>{text}</code>
        <Button kind="second" aria-label={`Copy ${name}`} onClick={copy}>{told === "Copied" ? told : "Copy"}</Button>
      </p>
      <p role="status" className="sp-hint">{told === "Copied" ? <span className="sp-vh">Copied</span> : told}</p>
    </div>
  )
}

const Choice = ({ focused = false, name, onChoose, value, values }: {
  readonly name: string
  /** Whether a dialog opens with the focus on what is chosen. */
  readonly focused?: boolean
  readonly values: ReadonlyArray<string>
  readonly value: string
  readonly onChoose: (value: string) => void
}) => (
  <fieldset className="sp-field">
    <legend>{name}</legend>
    <div className="sp-seg">
      {values.map((each) => (
        <label key={each}>
          <input
            type="radio"
            name={name}
            checked={each === value}
            data-autofocus={focused && each === value ? true : undefined}
            onChange={() => onChoose(each)}
          />
          {each}
        </label>
      ))}
    </div>
  </fieldset>
)

/**
 * Makes a link for another device, and shows its code, its address and a picture of that until the link is used, withdrawn
 * or over. The code is in memory only, and gone when the dialog is closed.
 *
 * @category components
 * @since 0.1.0
 */
export const LetIn = ({ pair }: {
  /** The address of the page that pairs a browser, if it is not `/pair` below that of the server. */
  readonly pair?: string | undefined
}) => {
  const { issueLink } = useConnections()
  const { act, busy, clear, fault } = useActions()
  const { session } = useSnapshot()
  const [open, setOpen] = useState(false)
  const [preset, setPreset] = useState("Watch and run")
  const [chosen, setChosen] = useState<ReadonlyArray<AccessScope>>(["runs:read"])
  const [stay, setStay] = useState("While it is used")
  const [lifetime, setLifetime] = useState("5 minutes")
  const [label, setLabel] = useState("")
  const [issued, setIssued] = useState<Access.IssuedLink>()
  const held: ReadonlyArray<AccessScope> = Option.match(session, {
    onNone: () => [],
    onSome: (state) => state.authenticated ? state.session.scopes : []
  })
  const offered = Object.entries(presets).filter(([, scopes]) => scopes.every((scope) => held.includes(scope)))
  const values = [...offered.map(([name]) => name), all, chooseOne]
  const value = values.includes(preset) ? preset : all
  const scopes: ReadonlyArray<AccessScope> = value === all
    ? held
    : value === chooseOne
    ? held.filter((scope) => chosen.includes(scope))
    : offered.find(([name]) => name === value)?.[1] ?? held
  const isBusy = Option.isSome(busy)
  const close = () => {
    setOpen(false)
    setIssued(undefined)
    setLabel("")
    clear()
  }
  const make = async () => {
    const answer = await act(
      "make",
      issueLink({
        scopes,
        lifetime: lifetimes[lifetime],
        ...stays[stay],
        ...(label.trim() === "" ? {} : { label: label.trim() })
      })
    )
    if (Option.isSome(answer)) setIssued(answer.value)
  }
  return (
    <>
      <Button onClick={() => setOpen(true)}>
        <Icon name="plus" />Let another device in
      </Button>
      {open && issued === undefined && (
        <Dialog title="Let another device in" onClose={close}>
          <div className="sp-field">
            <Choice focused name="What it may do" values={values} value={value} onChoose={setPreset} />
            {value === chooseOne
              ? (
                <div className="sp-checks">
                  {held.map((scope) => (
                    <label key={scope} className="sp-check">
                      <input
                        type="checkbox"
                        value={scope}
                        checked={chosen.includes(scope)}
                        onChange={({ target }) =>
                          setChosen((chosen) =>
                            target.checked ? [...chosen, scope] : chosen.filter((other) => other !== scope)
                          )}
                      />
                      <ScopeName name={scope} />
                    </label>
                  ))}
                </div>
              )
              : (
                <p className="sp-hint">
                  It may <Doing scopes={scopes} />.
                </p>
              )}
          </div>
          <div className="sp-field">
            <Choice name="Stays signed in" values={Object.keys(stays)} value={stay} onChoose={setStay} />
            <p className="sp-hint">
              {stay !== "While it is used"
                ? `It leaves after ${stay}, however it is used.`
                : "It leaves when it is not used for long, as this device does."}
            </p>
          </div>
          <Choice name="The link works for" values={Object.keys(lifetimes)} value={lifetime} onChoose={setLifetime} />
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
            <Button busy={isBusy} off={scopes.length === 0} onClick={make}>Make the link</Button>
          </div>
        </Dialog>
      )}
      {open && issued !== undefined && (
        <Issued
          key={issued.link.id}
          issued={issued}
          pair={pair}
          again={isBusy}
          refused={fault}
          onAgain={make}
          onClose={close}
        />
      )}
    </>
  )
}

/** Shows a link that was just made, and what becomes of it. */
const Issued = ({ again, issued: { code, link }, onAgain, onClose, pair, refused }: {
  readonly pair: string | undefined
  readonly issued: Access.IssuedLink
  readonly again: boolean
  /** Why the same link could not be made again. */
  readonly refused: Option.Option<ClientError>
  readonly onAgain: () => void
  readonly onClose: () => void
}) => {
  const { revoke, revokeLink, view } = useConnections()
  const { act, busy, fault } = useActions()
  const now = useNow()
  const server = useServer()
  const isBusy = Option.isSome(busy)
  // By the link's id, never by comparing lists of devices. The change that removed it says why.
  const removed = Option.flatMap(view, ({ changes }) =>
    Option.fromUndefinedOr(
      changes.flatMap((change) =>
        change.event === "pairingLinkRemoved" && change.data.id === link.id ? [change.data] : []
      )[0]
    ))
  const isOver = Option.exists(now, (now) => DateTime.isLessThanOrEqualTo(link.expiresAt, now))
  const device = Option.flatMap(
    view,
    ({ devices }) => Option.fromUndefinedOr(devices.find(({ letInBy }) => letInBy.linkId === link.id))
  )
  const isUsed = Option.exists(removed, ({ reason }) => reason === "consumed")
  const isEnded = !isUsed && (Option.isSome(removed) || isOver)
  // The same dialog asks something else from one moment to the next.
  const wait = !useSettled(isUsed ? "used" : isEnded ? "ended" : "open")
  const text = Redacted.value(code)
  const turnOut = async (id: string) => {
    const ended = await act("revoke", revoke(id, { descendants: true }))
    if (Option.isSome(ended)) onClose()
  }
  if (isUsed) {
    const name = Option.match(device, {
      onNone: () => "The device",
      onSome: ({ device }) => `“${Words.deviceName(device)}”`
    })
    const address = Option.match(device, { onNone: () => null, onSome: ({ device }) => device.address })
    return (
      <Dialog key="in" title={`${name} is in`} onClose={onClose}>
        <div role="status">
          <Note state="good" icon="done">
            <strong>It used the link just now{address === null ? "" : `, from ${Words.place(address)}`}.</strong>{" "}
            The link is used up.
          </Note>
        </div>
        <p className="sp-hint">Not the device you meant? Revoke it now, and make a new link.</p>
        <Fault fault={fault} />
        <div className="sp-da">
          {Option.isSome(device) && (
            <Button
              kind="quiet"
              busy={isBusy}
              wait={wait}
              onClick={() => turnOut(device.value.id)}
            >
              Revoke it
            </Button>
          )}
          <Button data-autofocus wait={wait} onClick={onClose}>Done</Button>
        </div>
      </Dialog>
    )
  }
  if (isEnded) {
    const withdrawn = Option.filter(removed, ({ reason }) => reason === "revoked")
    return (
      <Dialog key="over" title="The link has ended" onClose={onClose}>
        <p role="status">
          {Option.isSome(withdrawn)
            ? `${Words.actor(withdrawn.value.actor)} withdrew this link. Make a new one if you still need it.`
            : "No device used it. The code and the picture don’t work any more."}
        </p>
        <Fault fault={refused} />
        <div className="sp-da">
          <Button kind="second" data-autofocus wait={wait} onClick={onClose}>Close</Button>
          <Button busy={again} wait={wait} onClick={onAgain}>Make the same link again</Button>
        </div>
      </Dialog>
    )
  }
  const page = Option.map(
    server,
    ({ href }) => new URL(pair === undefined ? `${href.replace(/\/$/, "")}${PairingUrl.path}` : pair, location.href)
  )
  const address = Option.map(page, ({ origin, pathname }) => `${origin}${pathname}#token=${encodeURIComponent(text)}`)
  const place = Option.match(page, { onNone: () => "", onSome: ({ host, pathname }) => `${host}${pathname}` })
  const isLocal = Option.exists(page, ({ hostname }) => isLoopback(hostname))
  return (
    <Dialog
      key="open"
      title={isLocal ? "The link works on this computer only" : "Scan this with the other device"}
      onClose={onClose}
    >
      {isLocal
        ? (
          <>
            <p>
              You opened this page at{" "}
              {Option.match(page, { onNone: () => "", onSome: ({ host }) => host })}, which no other device can reach.
              So there is no picture to scan.
            </p>
            <Ends
              items={[
                ["stay", "For another browser on this computer, use the code or the address."],
                ["stay", "For other devices, start the server with --public-url https://…, or use your relay."]
              ]}
            />
          </>
        )
        : Option.isSome(address) && (
          <div className="sp-qr">
            <QrCode text={address.value} />
            <div className="sp-acts">
              <p>Point its camera at this. The page that opens asks before it signs in.</p>
              <p className="sp-hint">The device that has it can get in, once. It is shown only here and now.</p>
              <p className="sp-hint">
                It may <Doing scopes={link.scopes} />
                {link.sessionEndsAt === null ? "" : `, until ${Words.day(link.sessionEndsAt)}`}.
              </p>
            </div>
          </div>
        )}
      <Copied
        label={`${isLocal ? "The code" : "Or type this code"} at ${place}`}
        name="the code"
        text={text}
      />
      {Option.isSome(address) && (
        <Copied
          label={isLocal ? "The address" : "Or send the address"}
          name="the address"
          text={address.value}
        />
      )}
      <div role="status">
        <Note>
          <strong>
            Waiting for the device.{" "}
            <span aria-hidden="true">
              <Left at={link.expiresAt} now={now} /> left.
            </span>
          </strong>{" "}
          This box tells when it is in.
        </Note>
      </div>
      <Fault fault={fault} />
      <div className="sp-da">
        <Button kind="quiet" busy={isBusy} wait={wait} onClick={() => act("withdraw", revokeLink(link.id))}>
          Withdraw this link
        </Button>
        <Button data-autofocus wait={wait} aria-label="Done. The link stays open" onClick={onClose}>Done</Button>
      </div>
    </Dialog>
  )
}
