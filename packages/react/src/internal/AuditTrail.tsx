import type { AccessView, Device } from "@sallyport/client/AccessFeed"
import { AccessChangeEntry, type AccessEntry } from "@sallyport/contract/AccessGroup"
import type { AccessEventKind } from "@sallyport/core/access/AccessEvent"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { useEffect, useId, useMemo, useRef, useState } from "react"
import { useHistory, useStore } from "../Hooks.ts"
import { revisionOf } from "./history.ts"
import { Button, Empty, Fault, Known, Section, useHostScopes, useNow } from "./parts.tsx"
import * as Words from "./words.ts"

const isKnown = Schema.is(AccessChangeEntry)

const kinds: ReadonlyArray<readonly [kind: AccessEventKind | "", words: string]> = [
  ["", "Everything"],
  ["session", "Devices"],
  ["pairingLink", "Links"],
  ["connect", "Approvals"],
  ["credential", "Credentials"]
]

/** How long a text has to stand before it is searched. */
const typed = Duration.millis(250)

/**
 * Lists every change of access by its actor, the newest first and by day, live; older ones on request, and those of a kind
 * or with a text in them, which the server searches. The key `/` leads to the search.
 *
 * @category components
 * @since 0.1.0
 */
export const AuditTrail = () => <Known>{(view) => <Trail view={view} />}</Known>

/** Returns a text once it has stood for a moment. */
const useTyped = (text: string): string => {
  const store = useStore()
  const [settled, setSettled] = useState(text)
  useEffect(
    () => store.watch(Effect.andThen(Effect.sleep(typed), Effect.sync(() => setSettled(text)))),
    [store, text]
  )
  return settled
}

/** Names the links and devices that changes tell of, by their ids. */
const namesOf = (entries: ReadonlyArray<AccessChangeEntry>): ReadonlyMap<string, string> => {
  const names = new Map<string, string>()
  for (const entry of entries.toReversed()) {
    if (entry.event === "sessionUpserted") names.set(entry.data.session.id, Words.deviceName(entry.data.session.device))
    if (entry.event === "pairingLinkUpserted") names.set(entry.data.link.id, Words.linkName(entry.data.link.label))
  }
  return names
}

/** Says each entry as a sentence, with its time if that is known. The newest come first, here and in `changes`. */
const rowsOf = (
  entries: ReadonlyArray<AccessEntry>,
  changes: ReadonlyArray<AccessChangeEntry>,
  host: Words.HostScopes
) => {
  const names = namesOf([...changes, ...entries.filter(isKnown)])
  const sessions = new Map<string, Device>()
  return entries.toReversed().map((entry) => {
    const revision = revisionOf(entry)
    if (!isKnown(entry)) {
      return { revision, at: Option.none(), day: "", text: `Something else changed (${entry.event}).` }
    }
    const session = entry.event === "sessionUpserted" ? entry.data.session : undefined
    // As the change before left it.
    const before = Option.fromUndefinedOr(session === undefined ? undefined : sessions.get(session.id))
    if (session !== undefined) sessions.set(session.id, session)
    const { at } = entry.data
    return { revision, at: Option.some(at), day: Words.day(at), text: Words.sentence(entry, names, before, host) }
  }).toReversed()
}

const Trail = ({ view }: { readonly view: AccessView }) => {
  const now = useNow()
  const id = useId()
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => {
    const seek = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof Element &&
        event.target.closest("input, select, textarea, dialog") !== null
      if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return
      event.preventDefault()
      field.current?.focus()
    }
    addEventListener("keydown", seek)
    return () => removeEventListener("keydown", seek)
  }, [])
  const host = useHostScopes()
  const [text, setText] = useState("")
  const [kind, setKind] = useState<AccessEventKind | "">("")
  const search = useTyped(text.trim())
  const isAll = search === "" && kind === ""
  const { busy, entries, fault, readOlder, retention } = useHistory({
    ...(search === "" ? {} : { search }),
    ...(kind === "" ? {} : { kind })
  }, isAll ? 0 : view.revision)
  const read = Option.getOrUndefined(entries)
  const { changes } = view
  const rows = useMemo(() => {
    if (read === undefined) return undefined
    const newest = read[0] === undefined ? 0 : revisionOf(read[0])
    const live = isAll ? changes.filter(({ data }) => data.revision > newest) : []
    return rowsOf([...live, ...read], changes, host)
  }, [read, changes, isAll, host])
  const today = Option.getOrUndefined(Option.map(now, Words.day))
  return (
    <Section id="activity" title="Activity" lead="Every change of access, by its actor, in order.">
      <div className="sp-tools">
        <label className="sp-field">
          <span>Search</span>
          <input
            ref={field}
            type="search"
            aria-keyshortcuts="/"
            className="sp-in"
            value={text}
            maxLength={128}
            placeholder="A device, a person, an address"
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        <label className="sp-field">
          <span>Show</span>
          <select
            className="sp-in"
            value={kind}
            onChange={({ target }) => setKind(kinds.find(([kind]) => kind === target.value)?.[0] ?? "")}
          >
            {kinds.map(([kind, words]) => <option key={kind} value={kind}>{words}</option>)}
          </select>
        </label>
      </div>
      <p role="status" className="sp-hint" id={`${id}-found`}>
        {isAll || rows === undefined
          ? ""
          : `${rows.length}${Option.isSome(readOlder) ? " or more" : ""} found`}
      </p>
      <Fault fault={fault} reading />
      {rows === undefined
        ? <p className="sp-hint">Looking at what happened…</p>
        : rows.length > 0
        ? (
          <ol className="sp-list sp-trail">
            {rows.map(({ at, day, revision, text }, index) => (
              <li key={revision}>
                {day !== rows[index - 1]?.day && <p className="sp-day">{day === today ? "Today" : day}</p>}
                {Option.isSome(at) && (
                  <time dateTime={DateTime.formatIso(at.value)}>
                    {DateTime.formatLocal(at.value, { hour: "2-digit", minute: "2-digit" })}
                  </time>
                )}
                <span>{text}</span>
              </li>
            ))}
          </ol>
        )
        : isAll
        ? <Empty title="Nothing has changed yet.">A change made anywhere shows here at once.</Empty>
        : (
          <Empty title={search === "" ? "Nothing of this kind has happened." : `Nothing matches “${search}”.`}>
            <Button
              kind="inline"
              onClick={() => {
                setText("")
                setKind("")
              }}
            >
              Clear the search
            </Button>
          </Empty>
        )}
      {Option.isSome(readOlder) && (
        <p className="sp-more">
          <Button kind="plain" busy={busy} onClick={readOlder.value}>Show older</Button>
        </p>
      )}
      {Option.isSome(retention) && (
        <p className="sp-hint">A change is kept for {Words.length(Duration.toMillis(retention.value))}.</p>
      )}
    </Section>
  )
}
