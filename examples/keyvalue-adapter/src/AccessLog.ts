/**
 * Provides the store that the repositories of this adapter share: a log of changes on a `KeyValueStore`, one key for
 * each.
 *
 * A `KeyValueStore` has no transactions, but it sets one key atomically. So a change is one key, whose value holds
 * every row that it puts or removes together with its events. A change is stored whole, or not at all. The rows
 * themselves are in memory, built from the log when the layer is built.
 */
import { AccessEvent, BootstrapCredentialRepository, RepositoryError, WakeUps } from "@sallyport/core"
import * as Session from "@sallyport/core/access/Session"
import * as SessionCredentialRepository from "@sallyport/core/access/SessionCredentialRepository"
import { Context, DateTime, Effect, Layer, Schema, Semaphore } from "effect"
import { KeyValueStore } from "effect/persistence"

// #region record
/** Describes a change as it is stored: the rows that it puts, those that it removes, and its events for the feed. */
export const Change = Schema.Struct({
  links: Schema.optionalKey(Schema.Array(BootstrapCredentialRepository.PairingLinkRow)),
  removedLinks: Schema.optionalKey(Schema.Array(Schema.String)),
  sessions: Schema.optionalKey(Schema.Array(SessionCredentialRepository.SessionRow)),
  removedSessions: Schema.optionalKey(Schema.Array(Session.SessionId)),
  tickets: Schema.optionalKey(Schema.Array(SessionCredentialRepository.TicketRow)),
  removedTickets: Schema.optionalKey(Schema.Array(Schema.String)),
  events: Schema.optionalKey(Schema.Array(AccessEvent.AccessEvent)),
  /** How many of the oldest events are no longer kept. */
  sweptEvents: Schema.optionalKey(Schema.Natural)
})
/** @see {@link Change} */
export type Change = typeof Change.Type
// #endregion record

/** Describes the state after the changes so far. */
export interface State {
  readonly links: ReadonlyMap<string, BootstrapCredentialRepository.PairingLinkRow>
  readonly sessions: ReadonlyMap<Session.SessionId, SessionCredentialRepository.SessionRow>
  readonly tickets: ReadonlyMap<string, SessionCredentialRepository.TicketRow>
  readonly events: ReadonlyArray<AccessEvent.AccessEvent>
  /** How many events before those were deleted. */
  readonly swept: number
}

/** Describes the result of an operation: its answer, and its change, if any. Events get their numbers later. */
export interface Decision<A> {
  readonly answer: A
  readonly change?: Omit<Change, "events"> & {
    readonly events?: ReadonlyArray<Omit<Parameters<typeof AccessEvent.AccessEvent.make>[0], "revision">>
  }
}

/** Describes an event before it is appended. */
export const event = (change: AccessEvent.AccessChange, { actor, nowMillis }: AccessEvent.ChangeContext) => ({
  change,
  actor,
  at: DateTime.makeUnsafe(nowMillis)
})

const Stored = Schema.fromJsonString(Change)

/** Provides the log to the repositories that share it. */
export class AccessLog extends Context.Service<AccessLog, {
  /** The state after every stored change. A crash cannot take any of it back. */
  readonly state: State
  /**
   * Makes one change, alone: `decide` sees the state after the previous change, and nothing comes in between. The
   * change is acknowledged, visible and hinted at when it is stored. If `decide` returns an error there is no change.
   */
  readonly change: <A>(
    operation: string,
    decide: (state: State) => Decision<A> | Error
  ) => Effect.Effect<A, RepositoryError.RepositoryError>
  readonly wakeups: WakeUps.WakeUps
}>()("keyvalue-adapter/AccessLog") {}

const key = (number: number) => `change/${number}`

const fail = (operation: string) => (cause: unknown) =>
  Effect.fail(
    cause instanceof RepositoryError.RepositoryError
      ? cause
      : new RepositoryError.RepositoryError({ operation, reason: "Failed", outcome: "unknown", cause })
  )

const make = Effect.gen(function*() {
  const store = KeyValueStore.prefix(yield* KeyValueStore.KeyValueStore, "sallyport/")
  const links = new Map<string, BootstrapCredentialRepository.PairingLinkRow>()
  const sessions = new Map<Session.SessionId, SessionCredentialRepository.SessionRow>()
  const tickets = new Map<string, SessionCredentialRepository.TicketRow>()
  const events: Array<AccessEvent.AccessEvent> = []
  const state = { links, sessions, tickets, events, swept: 0 }
  let number = 0

  const apply = (change: Change) => {
    for (const row of change.links ?? []) links.set(row.id, row)
    for (const id of change.removedLinks ?? []) links.delete(id)
    for (const row of change.sessions ?? []) sessions.set(row.id, row)
    for (const id of change.removedSessions ?? []) sessions.delete(id)
    for (const row of change.tickets ?? []) tickets.set(row.ticketDigest, row)
    for (const digest of change.removedTickets ?? []) tickets.delete(digest)
    events.push(...(change.events ?? []))
    state.swept += events.splice(0, change.sweptEvents ?? 0).length
    number++
  }

  const load = Effect.fnUntraced(function*(text: string) {
    // A change that cannot be read is not passed over: it may be a revocation.
    apply(
      yield* Effect.mapError(
        Schema.decodeEffect(Stored)(text),
        () =>
          new Error(
            `${key(number + 1)} is damaged. Restore it; or remove it, if it is the last and its write was cut off`
          )
      )
    )
  })
  while (true) {
    const text = yield* store.get(key(number + 1))
    if (text === undefined) break
    yield* load(text)
  }

  const wakeups = WakeUps.make()
  const semaphore = yield* Semaphore.make(1)

  return AccessLog.of({
    state,
    wakeups,
    // #region change
    change: (operation, decide) =>
      Effect.gen(function*() {
        const decision = decide(state)
        if (decision instanceof Error) {
          return yield* new RepositoryError.RepositoryError({
            operation,
            reason: "Conflict",
            outcome: "unchanged",
            cause: decision
          })
        }
        if (decision.change === undefined) return decision.answer
        const change: Change = {
          ...decision.change,
          events: (decision.change.events ?? []).map((event, index) =>
            new AccessEvent.AccessEvent({ ...event, revision: state.swept + events.length + index + 1 })
          )
        }
        // This process doesn't know the stored change: it is another process's, or its own, whose `set` failed and
        // stored it all the same.
        if (yield* store.has(key(number + 1))) {
          return yield* Effect.fail(new Error(`${key(number + 1)} is there already; restart this process to read it`))
        }
        yield* store.set(key(number + 1), yield* Effect.orDie(Schema.encodeEffect(Stored)(change)))
        apply(change)
        wakeups.notify("access_feed", state.swept + events.length)
        return decision.answer
      }).pipe(
        Effect.uninterruptible,
        semaphore.withPermit,
        Effect.catch(fail(operation))
      )
    // #endregion change
  })
}).pipe(Effect.catch(fail("load")))

/**
 * Provides the log, after reading all of it. Use one in a runtime: the repositories share it by the layer's identity.
 */
export const layer: Layer.Layer<
  AccessLog,
  RepositoryError.RepositoryError,
  KeyValueStore.KeyValueStore
> = Layer.effect(AccessLog, make)
