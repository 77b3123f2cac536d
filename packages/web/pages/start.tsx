import type { AccessView } from "@sallyport/client/AccessFeed"
import * as Runs from "@sallyport/client/Runs"
import type { RunsError } from "@sallyport/client/RunsError"
import { LetIn, RunView, SignedIn, type SignedInState } from "@sallyport/react/Components"
import { useActions, useRuns, useSession, useSnapshot } from "@sallyport/react/Hooks"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { useRef } from "react"
import { type Place, show } from "./page.tsx"

const threadId = "demonstration"

/** Starts the run that counts, and follows the newest one, whichever device has started it. */
const Demonstration = ({ mayStart }: { readonly mayStart: boolean }) => {
  const { refresh, runs } = useRuns()
  const { act, busy, fault } = useActions<RunsError>()
  // What was asked for without an answer is asked for again by the next click, so that the work never runs twice.
  const unanswered = useRef(Option.none<Runs.RunIntent>())
  const newest = Option.flatMap(runs, (runs) => Option.fromUndefinedOr(runs.find((run) => run.threadId === threadId)))
  const isRunning = Option.exists(newest, ({ status }) => status === "running")

  const start = Effect.gen(function*() {
    const runs = yield* Runs.Runs
    const intent = yield* Option.match(unanswered.current, {
      onNone: () => runs.intent({ threadId, input: {} }),
      onSome: Effect.succeed
    })
    unanswered.current = Option.some(intent)
    yield* runs.start(intent).pipe(
      // Another page has started one, which the list has.
      Effect.catchIf(({ reason }) => reason._tag === "Conflict", () => Effect.void),
      Effect.tapError(({ reason }) =>
        Effect.sync(() => {
          if (reason._tag !== "Unreachable") unanswered.current = Option.none()
        })
      )
    )
    unanswered.current = Option.none()
    yield* refresh
  })

  return (
    <RunView
      title="A run to try"
      lead="It counts to 30, one a second, on the server. Close this page and come back: the run goes on, and you get what you missed."
      runId={Option.map(newest, ({ runId }) => runId)}
      total={30}
    >
      {mayStart && !isRunning && (
        <button
          type="button"
          className="sp-b"
          data-kind="primary"
          data-state={Option.isSome(busy) ? "busy" : "idle"}
          aria-disabled={Option.isSome(busy)}
          onClick={() => void act("start", start)}
        >
          {Option.isSome(newest) ? "Count again" : "Count to 30"}
        </button>
      )}
      {Option.isSome(fault) && <p role="alert" className="sp-hint">{fault.value.message}</p>}
    </RunView>
  )
}

const countsOf = ({ clients, devices, links }: AccessView): ReadonlyArray<readonly [string, string, number]> => [
  ...Option.match(clients, {
    onNone: () => [],
    onSome: (clients) => [
      ["waiting", "Waiting for you", clients.filter(({ status }) => status === "pending").length] as const
    ]
  }),
  ["devices", "Devices", devices.length],
  ["links", "Open links", links.length]
]

const Start = ({ place, session: { device, scopes, subject } }: Pick<SignedInState, "session"> & {
  readonly place: Place
}) => {
  const { access } = useSnapshot()
  const { logout } = useSession()
  const { act, busy, fault } = useActions()
  return (
    <main className="sallyport sw-start">
      <header>
        <h1>You are in</h1>
        <p className="sw-lead">
          Signed in as <b>{subject}</b>
          {device.label === null ? "" : ` on “${device.label}”`}. This server shows what your own backend can do with
          Sallyport.
        </p>
      </header>
      <div className="sw-cols">
        {scopes.includes("runs:read") && <Demonstration mayStart={scopes.includes("runs:operate")} />}
        <div className="sw-side">
          {Option.isSome(access) && (
            <ul className="sw-links">
              {countsOf(access.value).map(([id, words, count]) => (
                <li key={id}>
                  <a href={`${place.connections}#${id}`}>
                    {words}
                    <span className="sp-tag" data-state={id === "waiting" && count > 0 ? "warn" : undefined}>
                      {count}
                    </span>
                  </a>
                </li>
              ))}
            </ul>
          )}
          {scopes.includes("access:write") && <LetIn pair={place.pair} />}
          <button
            type="button"
            className="sp-b"
            data-kind="row"
            aria-disabled={Option.isSome(busy)}
            onClick={() => void act("logout", logout)}
          >
            Sign out here
          </button>
          {Option.isSome(fault) && <p role="alert" className="sp-hint">{fault.value.message}</p>}
        </div>
      </div>
      <section aria-labelledby="try">
        <h2 id="try">Three things to try while it counts</h2>
        <ol className="sw-try">
          <li>
            <b>Close this tab</b> and open it again. The striped steps are those you missed.
          </li>
          <li>
            <b>Open it on your phone.</b> Let the phone in, and both follow the same run.
          </li>
          <li>
            <b>Revoke the phone</b> under Connections. Its page says so at once.
          </li>
        </ol>
      </section>
    </main>
  )
}

show((place) => (
  <SignedIn
    pair={place.pair}
    title="Start"
    unpaired={
      <p className="sp-hint">
        You run the server, and its code is gone? <code>sallyport pair</code> makes a new one.
      </p>
    }
  >
    {({ session }) => <Start place={place} session={session} />}
  </SignedIn>
))
