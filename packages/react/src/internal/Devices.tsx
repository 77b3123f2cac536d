import * as Access from "@sallyport/client/Access"
import type { AccessView, Device } from "@sallyport/client/AccessFeed"
import type { EndedView, ListedSessionView } from "@sallyport/contract/AccessSchemas"
import * as Text from "@sallyport/core/Text"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { type ReactNode, useEffect, useRef, useState } from "react"
import { useActions, useConnections, useSession, useStore } from "../Hooks.ts"
import {
  Ago,
  Button,
  DeviceIcon,
  Dialog,
  Doing,
  Empty,
  Ends,
  Fault,
  Id,
  Known,
  Section,
  useNow,
  useScopes
} from "./parts.tsx"
import * as Words from "./words.ts"

const lastSeen = ({ lastSeenAt }: Device) => -lastSeenAt.epochMilliseconds
const nameOf = ({ device }: Device) => Words.deviceName(device)

/** Returns what a device let in, through every generation. */
const descendantsOf = (id: string, devices: ReadonlyArray<Device>): ReadonlyArray<Device> =>
  devices.filter(({ letInBy }) => letInBy.sessionId === id)
    .flatMap((device) => [device, ...descendantsOf(device.id, devices)])

/** Reads which devices are here now: when the list changes, and every few seconds, more often while a question shows it. */
const useListed = (revision: number, isAsked: boolean): ReadonlyMap<string, ListedSessionView> => {
  const store = useStore()
  const [listed, setListed] = useState<ReadonlyMap<string, ListedSessionView>>(new Map())
  useEffect(
    () =>
      store.watch(
        Effect.suspend(() =>
          document.visibilityState === "visible"
            ? Effect.map(
              Access.Access.use((access) => access.sessions),
              (sessions) => setListed(new Map(sessions.map((session) => [session.id, session])))
            )
            : Effect.void
        ).pipe(
          Effect.ignore,
          Effect.repeat(Schedule.spaced(isAsked ? Duration.seconds(2) : Duration.seconds(15))),
          Effect.asVoid
        )
      ),
    [store, revision, isAsked]
  )
  return listed
}

interface Gone {
  readonly device: Device
  readonly text: string
}

const remembered = Duration.seconds(5)

/** Keeps the devices that have left for a moment, so that no row moves under a pointer. */
const useGone = ({ changes, devices }: AccessView): ReadonlyArray<Gone> => {
  const store = useStore()
  const before = useRef(devices)
  const [gone, setGone] = useState<ReadonlyArray<Gone>>([])
  useEffect(() => {
    const left = before.current.filter(({ id }) => devices.every((device) => device.id !== id))
    before.current = devices
    if (left.length === 0) return
    setGone((gone) => [
      ...gone,
      ...left.map((device) => ({ device, text: Words.leaving(device.id, changes) }))
    ])
    store.watch(
      Effect.andThen(
        Effect.sleep(remembered),
        Effect.sync(() => setGone((gone) => gone.filter(({ device }) => !left.includes(device))))
      )
    )
  }, [store, devices, changes])
  return gone.filter(({ device }) => devices.every(({ id }) => id !== device.id))
}

/**
 * Returns until when this browser had seen the devices of a subject when this visit began: those of a first visit are known.
 * Times are the server's.
 */
const useSeenUntil = (devices: ReadonlyArray<Device>, subject: string | undefined): number => {
  const key = `sallyport-seen-${subject ?? ""}`
  const newest = Math.max(0, ...devices.map(({ createdAt }) => createdAt.epochMilliseconds))
  const [until] = useState(() => {
    try {
      const stored = localStorage.getItem(key)
      return stored !== null && /^\d+$/.test(stored) ? Number(stored) : newest
    } catch {
      // A browser that keeps nothing for this page.
      return newest
    }
  })
  useEffect(() => {
    try {
      localStorage.setItem(key, String(newest))
    } catch {
      return
    }
  }, [key, newest])
  return until
}

type Question = { readonly _tag: "Revoke" | "Rename"; readonly device: Device } | { readonly _tag: "Others" }

/**
 * Lists the devices that are signed in, this one first, with who let them in and whom they let in. Another one is revoked
 * after a question that says what ends; each can be given a name.
 *
 * @category components
 * @since 0.1.0
 */
export const Devices = () => <Known>{(view) => <DeviceList view={view} />}</Known>

const DeviceList = ({ view }: { readonly view: AccessView }) => {
  const { rename, revoke, revokeOthers } = useConnections()
  const { logout } = useSession()
  const { act, busy, clear, fault } = useActions()
  const mayWrite = useScopes().includes("access:write")
  const now = useNow()
  const [asked, setAsked] = useState<Question>()
  const [descendants, setDescendants] = useState(false)
  const [label, setLabel] = useState("")
  const [told, setTold] = useState({ text: "" })
  const listed = useListed(view.revision, asked !== undefined)
  const gone = useGone(view)
  const connectionsOf = ({ id }: Device) => listed.get(id)?.connections ?? 0
  const own = view.devices.filter(({ current }) => current)
  const others = view.devices.filter(({ current }) => !current)
  const subject = own[0]?.subject
  const seenUntil = useSeenUntil(view.devices, subject)
  const mine = others.filter((device) => device.subject === subject)
  const rows = [...others, ...gone.map(({ device }) => device).filter(({ current }) => !current)]
    .sort((a, b) => lastSeen(a) - lastSeen(b))
  const isBusy = Option.isSome(busy)

  const ask = (question: Question) => {
    setAsked(question)
    setDescendants(false)
    if (question._tag === "Rename") setLabel(question.device.device.label ?? "")
  }
  const close = () => {
    setAsked(undefined)
    clear()
  }
  async function end<A>(name: string, effect: Parameters<typeof act<A>>[1], done: (answer: A) => string) {
    const answer = await act(name, effect)
    if (Option.isNone(answer)) return
    setTold({ text: done(answer.value) })
    close()
  }
  // After the dialog has given the focus back to a button that may be gone by now.
  useEffect(() => {
    if (told.text !== "") document.getElementById("devices-h")?.focus()
  }, [told])

  const letInBy = ({ letInBy: { actor, sessionId } }: Device): string => {
    const by = view.devices.find(({ id }) => id === sessionId)
    if (by !== undefined) return by.current ? "this device" : nameOf(by)
    return sessionId === null ? Words.by(actor) : `a device of ${actor} that has left`
  }

  const row = (device: Device) => {
    const name = nameOf(device)
    const away = gone.find((one) => one.device.id === device.id)
    if (away !== undefined) {
      return (
        <li key={device.id} className="sp-item" data-state="gone">
          <DeviceIcon kind={device.device.kind} />
          <div>
            <p className="sp-name">
              <span>{name}</span>
            </p>
            <p className="sp-hint">{away.text}</p>
          </div>
        </li>
      )
    }
    const letIn = descendantsOf(device.id, view.devices)
    const { address } = device.device
    const isNew = !device.current && device.createdAt.epochMilliseconds > seenUntil
    return (
      <li
        key={device.id}
        className="sp-item"
        data-state={device.current ? "current" : isNew ? "new" : "other"}
      >
        <DeviceIcon kind={device.device.kind} />
        <div>
          <p className="sp-name">
            <span>{name}</span>
            {device.current && <span className="sp-tag" data-state="me">This device</span>}
            {isNew && <span className="sp-tag">New since your last visit</span>}
            {device.device.kind === "program" && <span className="sp-tag">Program</span>}
          </p>
          <p className="sp-meta">
            {device.current || connectionsOf(device) > 0
              ? (
                <span>
                  <span className="sp-here">Here now</span>
                </span>
              )
              : (
                <span>
                  Seen <Ago at={device.lastSeenAt} now={now} />
                </span>
              )}
            {address !== null && <span>{Words.place(address)}</span>}
            {device.client !== null && <span>{Words.program(device.client, device.letInBy)}</span>}
            {device.subject !== subject && <span>of {device.subject}</span>}
            <span>
              May <Doing scopes={device.scopes} />
            </span>
          </p>
        </div>
        <details className="sp-fold">
          <summary>
            {letIn.length === 0 ? `Let in by ${letInBy(device)}` : `Let in ${Words.count(letIn.length, "other")}`}
          </summary>
          <div className="sp-tree">
            {letIn.length > 0 && <p>{Words.list(letIn.map(nameOf))}</p>}
            <p>
              Let in by {letInBy(device)}, on {Words.day(device.createdAt)}. Ends on {Words.day(device.expiresAt)}
              {device.absoluteExpiresAt === null ||
                  device.absoluteExpiresAt.epochMilliseconds > device.expiresAt.epochMilliseconds
                ? ", later if it is used"
                : ""}. At the terminal it is <Id id={device.id} />.
            </p>
            {mayWrite && (
              <p>
                <Button kind="second" aria-label={`Rename ${name}`} onClick={() => ask({ _tag: "Rename", device })}>
                  Rename
                </Button>
              </p>
            )}
          </div>
        </details>
        <div className="sp-do">
          {device.current
            ? (
              <Button
                kind="row"
                busy={isBusy}
                onClick={() => act("logout", logout)}
              >
                Sign out
              </Button>
            )
            : mayWrite && (
              <Button
                kind="row"
                aria-label={`Revoke ${name}`}
                onClick={() => ask({ _tag: "Revoke", device })}
              >
                Revoke
              </Button>
            )}
        </div>
      </li>
    )
  }
  return (
    <Section
      id="devices"
      title="Devices"
      count={view.devices.length}
      lead="Signed in now. A device that is not used for long leaves by itself."
      action={mayWrite && mine.length > 1 && (
        <Button kind="second" onClick={() => ask({ _tag: "Others" })}>Revoke all others…</Button>
      )}
    >
      <p role="status" className="sp-told">{told.text}</p>
      {asked === undefined && <Fault fault={fault} />}
      <ul className="sp-list">{own.map(row)}</ul>
      {rows.length === 0
        ? <Empty title="No other device is in.">Let your phone in, and you can watch your runs from there.</Empty>
        : <ul className="sp-list">{rows.map(row)}</ul>}
      {asked?._tag === "Others" && (
        <Ask title={`Revoke the ${mine.length} other devices?`} onClose={close}>
          <Ends
            items={[
              [
                "cut",
                `${Words.list(mine.map(nameOf))} are signed out at once. ${
                  Words.closing(sum(mine.map(connectionsOf)), mine.length)
                }`
              ],
              ["link", "Their open links stop working. A link of the operator stays."],
              ["stay", "You stay signed in here. Credentials and runs stay."]
            ]}
          />
          <Fault fault={fault} />
          <div className="sp-da">
            <Button kind="second" data-autofocus onClick={close}>Keep them</Button>
            <Button
              kind="danger"
              busy={isBusy}
              onClick={() =>
                end(
                  "others",
                  revokeOthers,
                  (ended) => `${Words.count(ended.sessions, "device")} revoked. ${Words.closed(ended)}`
                )}
            >
              Revoke {mine.length} devices
            </Button>
          </div>
        </Ask>
      )}
      {asked?._tag === "Revoke" && (
        <Revoking
          device={asked.device}
          connections={connectionsOf(asked.device)}
          letIn={descendantsOf(asked.device.id, view.devices)}
          gone={view.devices.some(({ id }) => id === asked.device.id)
            ? Option.none()
            : Option.some(Words.leaving(asked.device.id, view.changes))}
          descendants={descendants}
          onDescendants={setDescendants}
          fault={<Fault fault={fault} />}
          busy={isBusy}
          onClose={close}
          onRevoke={() =>
            end("revoke", revoke(asked.device.id, { descendants }), (ended: EndedView) =>
              `${nameOf(asked.device)} was revoked. ${
                ended.sessions > 1
                  ? `So ${ended.sessions === 2 ? "was 1 other" : `were ${ended.sessions - 1} others`}. `
                  : ""
              }${Words.closed(ended)}`)}
        />
      )}
      {asked?._tag === "Rename" && (
        <Dialog title={`Rename ${nameOf(asked.device)}`} onClose={close}>
          <form
            className="sp-acts"
            onSubmit={(event) => {
              event.preventDefault()
              if (!Text.isLine(label.trim())) return
              void end(
                "rename",
                rename(asked.device.id, label.trim()),
                () => `${nameOf(asked.device)} is called ${label.trim()} now.`
              )
            }}
          >
            <label className="sp-field">
              <span>Name of the device</span>
              <input
                data-autofocus
                className="sp-in"
                value={label}
                maxLength={128}
                autoComplete="off"
                onChange={(event) => setLabel(event.target.value)}
              />
              <span className="sp-hint">One line of up to 128 visible characters.</span>
            </label>
            <Fault fault={fault} />
            <div className="sp-da">
              <Button kind="second" onClick={close}>Cancel</Button>
              <Button type="submit" busy={isBusy} off={!Text.isLine(label.trim())}>Rename</Button>
            </div>
          </form>
        </Dialog>
      )}
    </Section>
  )
}

const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((total, number) => total + number, 0)

const Ask = ({ children, onClose, title }: {
  readonly title: string
  readonly onClose: () => void
  readonly children: ReactNode
}) => <Dialog role="alertdialog" title={title} onClose={onClose}>{children}</Dialog>

/** Asks whether to revoke a device, and counts what ends with it while the question stands. */
const Revoking = ({ busy, connections, descendants, device, fault, gone, letIn, onClose, onDescendants, onRevoke }: {
  readonly device: Device
  readonly connections: number
  readonly letIn: ReadonlyArray<Device>
  /** How it left meanwhile, if it did. */
  readonly gone: Option.Option<string>
  readonly descendants: boolean
  readonly onDescendants: (descendants: boolean) => void
  readonly fault: ReactNode
  readonly busy: boolean
  readonly onClose: () => void
  readonly onRevoke: () => void
}) => {
  const name = nameOf(device)
  return (
    <Ask title={`Revoke ${name}?`} onClose={onClose}>
      {Option.isSome(gone)
        ? <p role="status">{gone.value}</p>
        : (
          <>
            <Ends
              items={[
                ["cut", `It is signed out at once. ${Words.closing(connections)}`],
                ["link", "Its open links stop working."],
                ["stay", "Runs that it started go on. You can stop them under Runs."]
              ]}
            />
            {letIn.length > 0 && (
              <label className="sp-check">
                <input
                  type="checkbox"
                  checked={descendants}
                  onChange={(event) => onDescendants(event.target.checked)}
                />
                <span>
                  Also revoke what it let in
                  <small>
                    {Words.list(letIn.map(nameOf))}. {letIn.length === 1 ? "It stays" : "They stay"}{" "}
                    signed in otherwise.
                  </small>
                </span>
              </label>
            )}
            <p className="sp-hint">This cannot be undone. The device needs a new code to come back.</p>
          </>
        )}
      {fault}
      <div className="sp-da">
        <Button kind="second" data-autofocus onClick={onClose}>{Option.isSome(gone) ? "Close" : "Keep it"}</Button>
        {Option.isNone(gone) && <Button kind="danger" busy={busy} onClick={onRevoke}>Revoke {name}</Button>}
      </div>
    </Ask>
  )
}
