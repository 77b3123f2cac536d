/**
 * Provides the slow tool: it looks at one change after the other, and emits each result as it finds it.
 */
import { Config, Context, Effect, Layer, Stream } from "effect"

const changes = [
  "Sessions slide without a write for each request",
  "A pairing code that is mistyped costs no attempt",
  "The access feed resumes over a reconnect",
  "Secrets are rotated while the server runs",
  "Runs end within the lease when their process dies",
  "Appends at the same time share a commit",
  "Readers that fall behind read pages",
  "Cookies carry the port on loopback",
  "Refresh tokens are exchanged in one step",
  "Proofs are checked on node:crypto",
  "A full disk is an error, not a lost event",
  "Keys retire when their last token has expired"
]

export interface Change {
  readonly number: number
  readonly of: number
  readonly summary: string
}

/** Reads changes slowly, beginning after one of them. */
export class Changes extends Context.Service<Changes, {
  readonly after: (number: number) => Stream.Stream<Change>
}>()("@sallyport-examples/agent-run/Changes") {
  static readonly layer = Layer.effect(
    Changes,
    Effect.gen(function*() {
      const each = yield* Config.Duration("AGENT_CHANGE_TAKES").pipe(Config.withDefault("700 millis"))
      return Changes.of({
        after: (number) =>
          Stream.fromIterable(changes.map((summary, index) => ({ number: index + 1, of: changes.length, summary })))
            .pipe(
              Stream.drop(number),
              Stream.tap(() => Effect.sleep(each))
            )
      })
    })
  )
}
