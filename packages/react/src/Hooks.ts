/**
 * Brings the session, access and runs into components. All hooks below one {@link SallyportProvider} share a connection.
 */
import * as Access from "@sallyport/client/Access"
import type * as AccessFeed from "@sallyport/client/AccessFeed"
import * as Approval from "@sallyport/client/Approval"
import type { ClientError } from "@sallyport/client/ClientError"
import * as Runs from "@sallyport/client/Runs"
import type { RunsError } from "@sallyport/client/RunsError"
import type { EndedView, PairingPreview } from "@sallyport/contract/AccessSchemas"
import type { ConnectClientView } from "@sallyport/contract/ConnectGroup"
import type { RunView } from "@sallyport/contract/RunGroup"
import type { SecurityMode } from "@sallyport/core/access/ConnectClient"
import { SessionId } from "@sallyport/core/access/Session"
import type { RunEnd } from "@sallyport/core/runs/Run"
import * as Effect from "effect/Effect"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
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

const logout = Access.Access.use((access) => access.logout)
const refresh = Access.Access.use((access) => Effect.asVoid(access.refresh))

/**
 * Returns the requests that pair this device. Run them by {@link useActions}, so that a code is sent once.
 *
 * @category hooks
 * @since 0.1.0
 */
export const usePairing = (): {
  readonly preview: (code: Redacted.Redacted) => Effect.Effect<PairingPreview, ClientError, Access.Access>
  readonly pair: (options: Access.PairOptions) => Effect.Effect<void, ClientError, Access.Access>
} => pairing

const pairing = {
  preview: (code: Redacted.Redacted) => Access.Access.use((access) => access.preview(code)),
  pair: (options: Access.PairOptions) => Access.Access.use((access) => access.pair(options))
}

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
  readonly issueLink: (options: Access.LinkOptions) => Effect.Effect<Access.IssuedLink, ClientError, Access.Access>
  readonly revokeLink: (id: string) => Effect.Effect<void, ClientError, Access.Access>
} => ({ view: useSnapshot().access, ...connections })

const connections = {
  revoke: (id: string, options?: { readonly descendants?: boolean }) =>
    Access.Access.use((access) => access.revokeSession(SessionId.make(id), options)),
  revokeOthers: Access.Access.use((access) => access.revokeOtherSessions),
  issueLink: (options: Access.LinkOptions) => Access.Access.use((access) => access.issueLink(options)),
  revokeLink: (id: string) => Access.Access.use((access) => access.revokeLink(id))
}

/**
 * Returns the clients of the relay and the approval mode, live, and the decisions about them. A mode that the server did
 * not say is none, never a guess.
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
  readonly setMode: (mode: SecurityMode) => Effect.Effect<SecurityMode, ClientError, Approval.Approval>
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
  setMode: (mode: SecurityMode) => Approval.Approval.use((approval) => approval.setMode(mode))
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
  readonly end: Option.Option<RunEnd>
  /** Why it cannot be followed. */
  readonly fault: Option.Option<RunsError>
}

const nothing: FollowedRun = { events: [], end: Option.none(), fault: Option.none() }

/**
 * Follows a run from its first event to its end, over lost connections; without an id it follows nothing.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useRun = (runId: Option.Option<string>): FollowedRun & {
  readonly abort: Effect.Effect<Option.Option<RunView>, RunsError, Runs.Runs>
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
      Runs.Runs.use((runs) =>
        Stream.runForEachArray(runs.follow({ runId: id }), (events) =>
          change((before) =>
            events.reduce<FollowedRun>(
              (run, event) =>
                event._tag === "Data"
                  ? { ...run, events: [...run.events, event.data] }
                  : { ...run, end: Option.some(event.end) },
              before
            )
          ))
      ).pipe(Effect.catch((fault) => change((before) => ({ ...before, fault: Option.some(fault) }))))
    )
  }, [store, id])
  const abort = useMemo(
    () => id === undefined ? Effect.succeedNone : Effect.asSome(Runs.Runs.use((runs) => runs.abort(id))),
    [id]
  )
  return { ...(followed.id === id ? followed.run : nothing), abort }
}
