import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Layer from "effect/Layer"
import { type AccessChange, AccessEvent, type ChangeContext } from "../AccessEvent.ts"

/**
 * Holds the access feed of the memory repositories. Appending is synchronous, so that a repository commits its change and
 * the event in one step that no other fiber can come between. Its layer is a constant: the repositories of one runtime
 * share the journal by the layer's identity.
 */
export class AccessJournal extends Context.Service<AccessJournal, {
  readonly events: ReadonlyArray<AccessEvent>
  readonly append: (change: AccessChange, context: ChangeContext) => void
}>()("@sallyport/core/internal/AccessJournal") {
  static readonly layer: Layer.Layer<AccessJournal> = Layer.sync(AccessJournal, () => {
    const events: Array<AccessEvent> = []
    return AccessJournal.of({
      events,
      append: (change, { actor, nowMillis }) => {
        events.push(
          new AccessEvent({ revision: events.length + 1, change, actor, at: DateTime.makeUnsafe(nowMillis) })
        )
      }
    })
  })
}
