/**
 * Brings the session, access and runs into components. All hooks below one {@link SallyportProvider} share one
 * connection for access and one for runs.
 */
import * as Access from "@sallyport/client/Access"
import type * as AccessFeed from "@sallyport/client/AccessFeed"
import type * as Connection from "@sallyport/client/Connection"
import * as Approval from "@sallyport/client/Approval"
import type { ClientError } from "@sallyport/client/ClientError"
import * as Runs from "@sallyport/client/Runs"
import type { RunsError } from "@sallyport/client/RunsError"
import type { EndedView, SessionView } from "@sallyport/contract/AccessSchemas"
import type { AccessEntry } from "@sallyport/contract/AccessGroup"
import type { ConnectClientView } from "@sallyport/contract/ConnectGroup"
import type { RunView } from "@sallyport/contract/RunGroup"
import type { AccessEventKind } from "@sallyport/core/access/AccessEvent"
import type { SecurityMode } from "@sallyport/core/access/ConnectClient"
import { SessionId } from "@sallyport/core/access/Session"
import {
  answerOf,
  progressOf,
  questionOf,
  type RunAnswer,
  type RunEnd,
  type RunProgress,
  type RunQuestion
} from "@sallyport/core/runs/Run"
import * as Duration from "effect/Duration"
import type { Verdict } from "@sallyport/core/credentials/CredentialRequirements"
import type { CredentialScope } from "@sallyport/core/access/ScopedCredential"
import type { CredentialStatus } from "@sallyport/core/credentials/CredentialStatus"
import * as Effect from "effect/Effect"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import {
  createContext,
  createElement,
  type FunctionComponentElement,
  type ProviderProps,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore
} from "react"
import * as CredentialRequests from "./internal/credentialRequests.ts"
import { type HistoryPage, readHistory, withOlder } from "./internal/history.ts"
import * as RunFeed from "./internal/runFeed.ts"
import * as Store from "./Store.ts"

const StoreContext = createContext<Store.Store | undefined>(undefined)

/**
 * Gives the client to the hooks below. `client` is a runtime of `SallyportClient.layer`; make it once, outside of the
 * component, and dispose of it yourself.
 *
 * @category components
 * @since 0.1.0
 */
export const SallyportProvider = ({ children, client }: {
  readonly client: ManagedRuntime.ManagedRuntime<Store.Services, unknown>
  readonly children?: ReactNode
}): FunctionComponentElement<ProviderProps<Store.Store | undefined>> => {
  const store = useMemo(() => Store.make(client), [client])
  return createElement(StoreContext, { value: store }, children)
}

/**
 * Returns the store of the provider above. It throws if there is none.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useStore = (): Store.Store => {
  const store = useContext(StoreContext)
  if (store === undefined) throw new Error("There is no SallyportProvider above this component; render one around it")
  return store
}

const initialSnapshot = () => Store.initial

/**
 * Returns what is known now, and renders again when it changes.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useSnapshot = (): Store.Snapshot => {
  const store = useStore()
  return useSyncExternalStore(store.subscribe, store.snapshot, initialSnapshot)
}

/**
 * Describes actions of which only one runs at a time.
 *
 * @category models
 * @since 0.1.0
 */
export interface Actions<E> {
  /** The name of the action that runs now. */
  readonly busy: Option.Option<string>
  /** Why the last action failed, until the next one begins. */
  readonly fault: Option.Option<E>
  /**
   * Runs an action, and returns its answer. It returns none if the action failed, and if another one was running: a
   * second click does nothing.
   */
  readonly act: <A>(name: string, effect: Effect.Effect<A, E, Store.Services>) => Promise<Option.Option<A>>
  /** Forgets the fault. */
  readonly clear: () => void
}

/**
 * Runs the actions of a group of buttons, one at a time. The guard holds from the first click on, before anything is
 * rendered, and covers every button of the group.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useActions = <E = ClientError>(): Actions<E> => {
  const store = useStore()
  const running = useRef(false)
  const [busy, setBusy] = useState(Option.none<string>())
  const [fault, setFault] = useState(Option.none<E>())
  const act = useCallback(
    async <A>(name: string, effect: Effect.Effect<A, E, Store.Services>): Promise<Option.Option<A>> => {
      if (running.current) return Option.none()
      running.current = true
      setBusy(Option.some(name))
      setFault(Option.none())
      try {
        const result = await store.run(effect)
        setFault(Result.getFailure(result))
        return Result.getSuccess(result)
      } finally {
        running.current = false
        setBusy(Option.none())
      }
    },
    [store]
  )
  return { busy, fault, act, clear: useCallback(() => setFault(Option.none()), []) }
}

/**
 * Returns whether this device is signed in, and what signs it out.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useSession = (): Pick<Store.Snapshot, "session" | "fault" | "ended"> & {
  readonly logout: Effect.Effect<void, ClientError, Access.Access>
  readonly refresh: Effect.Effect<void, ClientError, Access.Access>
} => {
  const { ended, fault, session } = useSnapshot()
  return { session, fault, ended, logout, refresh }
}

// It lasts until the state is known: before that, the page still offers to sign out.
const logout = Access.Access.use((access) => Effect.andThen(access.logout, Effect.ignore(access.state)))
const refresh = Access.Access.use((access) => Effect.asVoid(access.refresh))

/**
 * Returns the devices and open links, live, and the requests that change them.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useConnections = (): {
  readonly view: Option.Option<AccessFeed.AccessView>
  readonly revoke: (
    id: string,
    options?: { readonly descendants?: boolean }
  ) => Effect.Effect<EndedView, ClientError, Access.Access>
  readonly revokeOthers: Effect.Effect<EndedView, ClientError, Access.Access>
  /** Grants a device some of the scopes that it asks for; none turn it away. */
  readonly answerScopes: (
    id: string,
    answer: Parameters<Access.Access["Service"]["answerScopes"]>[1]
  ) => Effect.Effect<SessionView, ClientError, Access.Access>
  /** Gives a device a name. */
  readonly rename: (id: string, label: string) => Effect.Effect<SessionView, ClientError, Access.Access>
  readonly issueLink: (options: Access.LinkOptions) => Effect.Effect<Access.IssuedLink, ClientError, Access.Access>
  readonly revokeLink: (id: string) => Effect.Effect<void, ClientError, Access.Access>
} => ({ view: useSnapshot().access, ...connections })

const connections = {
  revoke: (id: string, options?: { readonly descendants?: boolean }) =>
    Access.Access.use((access) => access.revokeSession(SessionId.make(id), options)),
  revokeOthers: Access.Access.use((access) => access.revokeOtherSessions),
  answerScopes: (id: string, answer: Parameters<Access.Access["Service"]["answerScopes"]>[1]) =>
    Access.Access.use((access) => access.answerScopes(SessionId.make(id), answer)),
  rename: (id: string, label: string) => Access.Access.use((access) => access.renameSession(SessionId.make(id), label)),
  issueLink: (options: Access.LinkOptions) => Access.Access.use((access) => access.issueLink(options)),
  revokeLink: (id: string) => Access.Access.use((access) => access.revokeLink(id))
}

/**
 * Returns the devices and the clients of the relay that ask to come in, the approval mode, live, and the decisions about
 * them. A mode that the server did not say is none, never a guess.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useConnectClients = (): {
  readonly clients: Option.Option<ReadonlyArray<AccessFeed.ConnectClient>>
  readonly mode: Option.Option<string>
  readonly decide: (
    decision: Approval.Decision,
    options: Approval.DecisionOptions
  ) => Effect.Effect<ConnectClientView, ClientError, Approval.Approval>
  /** Finds the device that shows a code and waits. */
  readonly find: (code: string) => Effect.Effect<ConnectClientView, ClientError, Approval.Approval>
  /** Sets the mode. `trust` approves clients that came in by their account: all of them, or those named. */
  readonly setMode: (
    mode: SecurityMode,
    trust?: "all" | ReadonlyArray<string>
  ) => Effect.Effect<SecurityMode, ClientError, Approval.Approval>
  /** Asks the server for the mode, if the feed did not say it. */
  readonly askMode: Effect.Effect<SecurityMode, ClientError, Approval.Approval>
} => {
  const { access } = useSnapshot()
  return {
    clients: Option.flatMap(access, ({ clients }) => clients),
    mode: Option.flatMap(access, ({ mode }) => mode),
    ...approval
  }
}

const approval = {
  decide: (decision: Approval.Decision, options: Approval.DecisionOptions) =>
    Approval.Approval.use((approval) => approval.decide(decision, options)),
  find: (code: string) => Approval.Approval.use((approval) => approval.find(code)),
  setMode: (mode: SecurityMode, trust?: "all" | ReadonlyArray<string>) =>
    Approval.Approval.use((approval) => approval.setMode(mode, trust)),
  askMode: Approval.Approval.use((approval) => approval.mode)
}

/** How long to wait after a reading that failed. */
const afterFailure = Duration.seconds(5)

/**
 * Chooses what has happened: of a kind, and with a text in it. Both are left out for everything.
 *
 * @category options
 * @since 0.1.0
 */
export interface HistoryFilter {
  readonly kind?: AccessEventKind | undefined
  readonly search?: string | undefined
}

/**
 * Reads what has happened, the newest first, and again whenever `revision` changes; none before the first answer.
 * `readOlder` adds the following page, and is none if there is no further one.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useHistory = ({ kind, search }: HistoryFilter, revision: number): {
  readonly entries: Option.Option<ReadonlyArray<AccessEntry>>
  readonly readOlder: Option.Option<() => void>
  /** How long an entry is kept, if the server knows. */
  readonly retention: Option.Option<Duration.Duration>
  readonly busy: boolean
  readonly fault: Option.Option<ClientError>
} => {
  const store = useStore()
  const { act, busy, fault } = useActions()
  const [read, setRead] = useState(Option.none<HistoryFilter & { readonly page: HistoryPage }>())
  const [refused, setRefused] = useState(Option.none<ClientError>())
  useEffect(
    () =>
      store.watch(
        readHistory({ kind, search }).pipe(
          Effect.tapError((fault) => Effect.sync(() => setRefused(Option.some(fault)))),
          Effect.retry({ schedule: Schedule.spaced(afterFailure), while: ({ isRetryable }) => isRetryable }),
          Effect.map((page) => {
            setRead((before) => {
              const known = Option.filter(before, (known) => known.kind === kind && known.search === search)
              return Option.some({
                kind,
                search,
                page: Option.match(known, { onNone: () => page, onSome: (known) => withOlder(page, known.page) })
              })
            })
            setRefused(Option.none())
          }),
          Effect.ignore
        )
      ),
    [store, kind, search, revision]
  )
  const page = Option.map(read, ({ page }) => page)
  const addOlder = async (filter: HistoryFilter, before: number) => {
    const older = await act("older", readHistory({ ...filter, before }))
    if (Option.isNone(older)) return
    // Another page, or a longer one, may stand there by now.
    setRead(
      Option.map((known) =>
        known.kind === filter.kind && known.search === filter.search && known.page.next === before
          ? { ...known, page: { ...older.value, events: [...known.page.events, ...older.value.events] } }
          : known
      )
    )
  }
  const readOlder = Option.flatMap(
    read,
    ({ kind, page: { next }, search }) =>
      next === null ? Option.none() : Option.some(() => void addOlder({ kind, search }, next))
  )
  return {
    entries: Option.map(page, ({ events }) => events),
    readOlder,
    retention: Option.flatMap(
      page,
      ({ retentionSeconds }) => Option.map(Option.fromUndefinedOr(retentionSeconds), Duration.seconds)
    ),
    busy: Option.isSome(busy),
    fault: Option.orElse(fault, () => refused)
  }
}

/**
 * Reads the status of each credential that the server declares, and again after each change of one; none if the server
 * has none to tell, or this session may not see them.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useCredentials = (): {
  readonly credentials: Option.Option<ReadonlyArray<CredentialStatus>>
  /** Asks the provider about a credential. */
  readonly check: (key: string) => Effect.Effect<Verdict, ClientError, Connection.Connection>
  /** Stores the values of all parts of a credential, and returns the scope that is read before it, or null. */
  readonly write: (
    key: string,
    values: Readonly<Record<string, Redacted.Redacted>>
  ) => Effect.Effect<CredentialScope | null, ClientError, Connection.Connection>
  /** Removes a credential from the scope that it is read from. */
  readonly remove: (
    credential: Pick<CredentialStatus, "key" | "source">
  ) => Effect.Effect<void, ClientError, Connection.Connection>
} => {
  const store = useStore()
  const { access } = useSnapshot()
  const [credentials, setCredentials] = useState(Option.none<ReadonlyArray<CredentialStatus>>())
  const changed = Option.match(access, {
    onNone: () => 0,
    onSome: ({ changes }) =>
      changes.find(({ event }) => event === "credentialUpserted" || event === "credentialRemoved")?.data.revision ?? 0
  })
  const { check, read, remove, write } = useMemo(() => {
    const read = Effect.map(CredentialRequests.status, (credentials) => setCredentials(Option.some(credentials)))
    const again = Effect.ignore(read)
    return {
      read,
      check: (key: string) => Effect.tap(CredentialRequests.check(key), again),
      write: (...args: Parameters<typeof CredentialRequests.write>) =>
        Effect.tap(CredentialRequests.write(...args), again),
      remove: (credential: Pick<CredentialStatus, "key" | "source">) =>
        Effect.tap(CredentialRequests.remove(credential), again)
    }
  }, [])
  useEffect(
    () =>
      store.watch(
        read.pipe(
          Effect.retry({ schedule: Schedule.spaced(afterFailure), while: ({ isRetryable }) => isRetryable }),
          Effect.catch(() => Effect.sync(() => setCredentials(Option.none())))
        )
      ),
    [store, read, changed]
  )
  return { credentials, check, write, remove }
}

/**
 * Describes a run as a page sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface FollowedRun {
  /** The data of its events, in their order. */
  readonly events: ReadonlyArray<Schema.Json>
  /** Tells of each event whether it was there before the connection opened: whether this page caught up with it. */
  readonly caughtUp: ReadonlyArray<boolean>
  /** How far it has come, if its program says so. */
  readonly progress: Option.Option<RunProgress>
  /** What it asks that has no answer; the run waits for each. None is open once the run has ended. */
  readonly questions: ReadonlyArray<RunQuestion>
  /** What it has asked and has an answer, the oldest first. */
  readonly answers: ReadonlyArray<RunQuestion & RunAnswer>
  readonly connection: "opening" | "open" | "lost"
  /** Whether it waits for its turn, behind other runs of its thread. */
  readonly isQueued: boolean
  readonly end: Option.Option<RunEnd>
  /** Why it cannot be followed. */
  readonly fault: Option.Option<RunsError>
}

const nothing: FollowedRun = {
  events: [],
  caughtUp: [],
  progress: Option.none(),
  questions: [],
  answers: [],
  connection: "opening",
  isQueued: false,
  end: Option.none(),
  fault: Option.none()
}

/** Adds to a run what an event asks or answers. */
const withEvent = (run: Pick<FollowedRun, "questions" | "answers">, data: Schema.Json): typeof run => {
  const asked = questionOf(data)
  if (Option.isSome(asked)) {
    const isKnown = [...run.questions, ...run.answers].some(({ name }) => name === asked.value.name)
    return isKnown ? run : { ...run, questions: [...run.questions, asked.value] }
  }
  return Option.match(answerOf(data), {
    onNone: () => run,
    onSome: (answer) => ({
      questions: run.questions.filter(({ name }) => name !== answer.name),
      answers: [
        ...run.answers,
        ...run.questions.filter(({ name }) => name === answer.name).map((question) => ({ ...question, ...answer }))
      ]
    })
  })
}

/**
 * Follows a run from its first event to its end, over lost connections; without an id it follows nothing. `answer`
 * answers a question of the run.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useRun = (runId: Option.Option<string>): FollowedRun & {
  readonly abort: Effect.Effect<Option.Option<RunView>, RunsError, Runs.Runs>
  readonly answer: (answer: RunAnswer) => Effect.Effect<Option.Option<RunView>, RunsError, Runs.Runs>
} => {
  const store = useStore()
  const id = Option.getOrUndefined(runId)
  const [followed, setFollowed] = useState({ id, run: nothing })
  useEffect(() => {
    if (id === undefined) return undefined
    const change = (next: (before: FollowedRun) => FollowedRun) =>
      Effect.sync(() => setFollowed((before) => ({ id, run: next(before.id === id ? before.run : nothing) })))
    setFollowed({ id, run: nothing })
    return store.watch(
      Effect.suspend(() => {
        // What the run had when the connection opened is told from what it does under the reader's eyes.
        let before = 0
        return store.followRun(id, {
          onConnection: Option.match({
            onNone: () => change((run) => ({ ...run, connection: "lost" })),
            onSome: ({ lastSeq, status }) =>
              Effect.suspend(() => {
                before = lastSeq
                return change((run) => ({ ...run, connection: "open", isQueued: status === "queued" }))
              })
          }),
          onEvents: (events) => {
            const data = events.filter((event) => event._tag === "Data")
            const end = Option.fromUndefinedOr(events.find((event) => event._tag === "End"))
            const progress = Option.firstSomeOf(data.toReversed().map(({ data }) => progressOf(data)))
            const caughtUp = data.map(({ cursor }) => cursor <= before)
            return change((run) => ({
              ...run,
              ...data.reduce((run, { data }) => withEvent(run, data), {
                questions: run.questions,
                answers: run.answers
              }),
              ...(Option.isSome(end) ? { questions: [] } : {}),
              events: [...run.events, ...data.map(({ data }) => data)],
              caughtUp: [...run.caughtUp, ...caughtUp],
              progress: Option.orElse(progress, () => run.progress),
              isQueued: false,
              end: Option.map(end, ({ end }) => end)
            }))
          }
        })
      }).pipe(Effect.catch((fault) => change((before) => ({ ...before, fault: Option.some(fault) }))))
    )
  }, [store, id])
  const abort = useMemo(
    () => id === undefined ? Effect.succeedNone : Effect.asSome(Runs.Runs.use((runs) => runs.abort(id))),
    [id]
  )
  const answer = useCallback(
    (answer: RunAnswer) =>
      id === undefined ? Effect.succeedNone : Effect.asSome(Runs.Runs.use((runs) => runs.answer(id, answer))),
    [id]
  )
  return { ...(followed.id === id ? followed.run : nothing), abort, answer }
}

/** How long to wait after a reading of the list of runs, however much happens. */
const afterList = Duration.millis(500)

const watchVisibility = (listener: () => void) => {
  document.addEventListener("visibilitychange", listener)
  return () => document.removeEventListener("visibilitychange", listener)
}
const isVisible = () => document.visibilityState === "visible"

/** Returns how far the runs have come by what happened, or none if the list has to be read again for it. */
const advanced = (
  news: ReadonlyArray<RunFeed.News>,
  runs: ReadonlyArray<RunView>
): Option.Option<ReadonlyMap<string, number>> => {
  const seqs = new Map<string, number>()
  for (const each of news) {
    if (each._tag !== "Event") {
      if (each._tag === "Connection" && each.isOpen) return Option.none()
      continue
    }
    const { event } = each
    // A run that is new, ends, asks or goes on is another row.
    if (event._tag !== "Data" || Option.isSome(questionOf(event.data))) return Option.none()
    if (runs.find(({ runId }) => runId === event.runId)?.status !== "running") return Option.none()
    seqs.set(event.runId, event.seq)
  }
  return Option.some(seqs)
}

const runsOf: (page: Option.Option<Runs.RunPage>) => ReadonlyArray<RunView> = Option.match({
  onNone: () => [],
  onSome: ({ runs }) => runs
})

/** Returns the runs that are not among others. */
const withoutRuns = (runs: ReadonlyArray<RunView>, others: ReadonlyArray<RunView>): ReadonlyArray<RunView> => {
  const ids = new Set(others.map(({ runId }) => runId))
  return runs.filter(({ runId }) => !ids.has(runId))
}

/**
 * Lists this subject's runs, the newest first, live while the page is in view, wherever they are started; none before the
 * first answer. `readOlder` adds the following page, and is none if there is no further one.
 *
 * **Details**
 *
 * The connection is the one by which `useRun` follows runs. A page that is out of view does not hold it for the list, since
 * browsers allow few connections to a server; it reads the list again when it is back.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useRuns = (): {
  readonly runs: Option.Option<ReadonlyArray<RunView>>
  /** Why the last reading failed. What was read before is still there. */
  readonly fault: Option.Option<RunsError>
  readonly readOlder: Option.Option<Effect.Effect<void, RunsError, Runs.Runs>>
  readonly refresh: Effect.Effect<void, RunsError, Runs.Runs>
  readonly abort: (runId: string) => Effect.Effect<RunView, RunsError, Runs.Runs>
} => {
  const store = useStore()
  const [{ first, older }, setRead] = useState<{
    readonly first: Option.Option<Runs.RunPage>
    readonly older: Option.Option<Runs.RunPage>
  }>({ first: Option.none(), older: Option.none() })
  const [fault, setFault] = useState(Option.none<RunsError>())
  const refresh = useMemo(
    () =>
      Effect.map(Runs.Runs.use((runs) => runs.list()), (page) => {
        setRead(({ first, older }) => ({
          first: Option.some(page),
          // The runs that newer ones have pushed off the first page are older ones now.
          older: Option.map(older, (older) => ({
            ...older,
            runs: [...withoutRuns(runsOf(first), page.runs), ...older.runs]
          }))
        }))
        setFault(Option.none())
      }),
    []
  )
  const visible = useSyncExternalStore(watchVisibility, isVisible, () => false)
  const listed = useRef<ReadonlyArray<RunView>>([])
  useEffect(() => {
    listed.current = runsOf(first)
  }, [first])
  useEffect(() => {
    if (!visible) return undefined
    const take = (news: ReadonlyArray<RunFeed.News>) =>
      Option.match(advanced(news, listed.current), {
        onNone: () => Effect.andThen(refresh, Effect.sleep(afterList)),
        onSome: (seqs) =>
          Effect.sync(() =>
            setRead(({ first, older }) => ({
              first: Option.map(first, (page) => ({
                ...page,
                runs: page.runs.map((run) => {
                  const lastSeq = Math.max(run.lastSeq, seqs.get(run.runId) ?? 0)
                  return lastSeq === run.lastSeq ? run : { ...run, lastSeq }
                })
              })),
              older
            }))
          )
      })
    // No event tells that a run has its turn.
    const turns = Effect.suspend(() => listed.current.some(({ status }) => status === "queued") ? refresh : Effect.void)
      .pipe(Effect.repeat(Schedule.spaced(RunFeed.betweenTurns)))
    return store.watch(
      Effect.andThen(refresh, Effect.raceFirst(store.followRuns(take), turns)).pipe(
        Effect.tapError((fault) => Effect.sync(() => setFault(Option.some(fault)))),
        Effect.retry(Schedule.spaced(afterFailure)),
        Effect.ignore
      )
    )
  }, [store, refresh, visible])
  const last = Option.orElse(older, () => first)
  const runs = Option.map(first, ({ runs }) => [...runs, ...withoutRuns(runsOf(older), runs)])
  const readOlder = Option.flatMap(last, ({ next }) =>
    next === null ? Option.none() : Option.some(
      Effect.map(Runs.Runs.use((runs) => runs.list({ after: next })), (page) =>
        setRead(({ first, older }) => ({
          first,
          older: Option.some({ ...page, runs: [...runsOf(older), ...page.runs] })
        })))
    ))
  return { runs, fault, readOlder, refresh, abort: abortRun }
}

const abortRun = (runId: string) => Runs.Runs.use((runs) => runs.abort(runId))
