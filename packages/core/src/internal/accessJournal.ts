import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Layer from "effect/Layer"
import { type AccessChange, AccessEvent, type ChangeContext } from "../AccessEvent.ts"
import type { PairingLink } from "../PairingLink.ts"
import type { Session } from "../Session.ts"
import * as WakeUps from "../WakeUps.ts"

/**
 * Holds the access feed of the memory repositories. Appending is synchronous, so that a repository commits its change and
 * the event in one step that no other fiber can come between. Its layer is a constant: the repositories of one runtime
 * share the journal by the layer's identity.
 */
export class AccessJournal extends Context.Service<AccessJournal, {
  readonly events: ReadonlyArray<AccessEvent>
  readonly append: (change: AccessChange, context: ChangeContext) => void
  /** The state that the events lead to, by id. */
  readonly links: ReadonlyMap<string, PairingLink>
  readonly sessions: ReadonlyMap<string, Session>
  readonly wakeups: WakeUps.WakeUps
}>()("@sallyport/core/internal/AccessJournal") {
  static readonly layer: Layer.Layer<AccessJournal> = Layer.sync(AccessJournal, () => {
    const events: Array<AccessEvent> = []
    const links = new Map<string, PairingLink>()
    const sessions = new Map<string, Session>()
    const wakeups = WakeUps.make()
    const apply = (change: AccessChange): void => {
      switch (change._tag) {
        case "pairingLinkUpserted":
          links.set(change.link.id, change.link)
          return
        case "pairingLinkRemoved":
          links.delete(change.id)
          return
        case "sessionUpserted":
          sessions.set(change.session.id, change.session)
          return
        case "sessionRemoved":
          sessions.delete(change.id)
          return
      }
    }
    return AccessJournal.of({
      events,
      links,
      sessions,
      wakeups,
      append: (change, { actor, nowMillis }) => {
        events.push(
          new AccessEvent({ revision: events.length + 1, change, actor, at: DateTime.makeUnsafe(nowMillis) })
        )
        apply(change)
        wakeups.notify("access_feed", events.length)
      }
    })
  })
}
