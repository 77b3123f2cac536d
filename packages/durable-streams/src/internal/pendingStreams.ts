/**
 * What there is to do for a subscription: its streams that have gone on since they were acknowledged.
 */
import { RunOwner } from "@sallyport/core/runs/Run"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { formatOffset, type StreamInfo } from "../DurableStream.ts"
import { DurableStreams } from "../DurableStreams.ts"
import { StreamSubscriptionRepository, type SubscriptionRow } from "../StreamSubscriptionRepository.ts"
import * as Glob from "./glob.ts"
import { ofStreams, storage, type StreamSubscriptionsError } from "./subscriptionErrors.ts"

/**
 * Describes a stream with something new.
 *
 * @category models
 * @since 0.1.0
 */
export interface PendingStream {
  readonly path: string
  readonly streamId: number
  readonly explicit: boolean
  readonly acked: number
  readonly tail: number
}

/** Returns a stream with something new in the form that the protocol gives it. */
export const viewOf = (stream: PendingStream) => ({
  path: stream.path,
  link_type: stream.explicit ? "explicit" : "glob",
  acked_offset: formatOffset({ streamId: stream.streamId, position: stream.acked }),
  tail_offset: formatOffset({ streamId: stream.streamId, position: stream.tail }),
  has_pending: stream.tail > stream.acked
})

const maxPending = 1_000
const decodeOwner = Schema.decodeUnknownEffect(Schema.fromJsonString(RunOwner))

/** Returns whose a subscription is. */
export const ownerOf = (row: SubscriptionRow): Effect.Effect<RunOwner> => Effect.orDie(decodeOwner(row.owner))

/** Looks at the streams of subscriptions. */
export type PendingStreams = Effect.Success<typeof make>

/** Makes what looks at the streams of subscriptions. */
export const make = Effect.gen(function*() {
  const streams = yield* DurableStreams
  const repository = yield* StreamSubscriptionRepository

  /** Calls a function for each stream that matches, until it answers false. */
  const forMatching = Effect.fnUntraced(function*(
    owner: RunOwner,
    pattern: string,
    visit: (stream: { readonly id: number; readonly path: string; readonly tail: number }) => boolean
  ) {
    const matches = Glob.matcher(pattern)
    const prefix = Glob.literalPrefix(pattern)
    const limit = 500
    let after = ""
    while (true) {
      const page = yield* ofStreams(streams.list({ owner, prefix, after, limit }))
      for (const stream of page) {
        after = stream.path
        if (matches(stream.path) && !visit(stream)) return
      }
      if (page.length < limit) return
    }
  })

  /** Returns which stream has a path and where it ends; 0 and 0 if there is none. */
  const tailOf = (
    owner: RunOwner,
    path: string
  ): Effect.Effect<Pick<StreamInfo, "id" | "tail">, StreamSubscriptionsError> =>
    ofStreams(
      Effect.catchReasons(streams.get({ owner, path }), "DurableStreamsError", {
        StreamNotFound: () => Effect.succeed({ id: 0, tail: 0 }),
        StreamGone: () => Effect.succeed({ id: 0, tail: 0 })
      })
    )

  /** Returns the streams with something new, those that a pattern matches first. */
  const pendingOf = Effect.fnUntraced(function*(
    row: SubscriptionRow
  ): Effect.fn.Return<ReadonlyArray<PendingStream>, StreamSubscriptionsError> {
    const owner = yield* ownerOf(row)
    const links = new Map((yield* storage(repository.links(row))).map((link) => [link.path, link]))
    const pending: Array<PendingStream> = []
    const seen = new Set<string>()
    if (row.pattern !== null) {
      yield* forMatching(owner, row.pattern, ({ id, path, tail }) => {
        // A worker's own wakes are no news to it.
        if (path === row.wakeStream) return true
        const link = links.get(path)
        seen.add(path)
        // A stream without a link, or with that of one before it, was created after the subscription: all of it is new.
        const acked = link?.streamId === id ? link.acked : 0
        if (tail > acked) pending.push({ path, streamId: id, explicit: link?.explicit ?? false, acked, tail })
        return pending.length < maxPending
      })
    }
    for (const { explicit, path, ...link } of links.values()) {
      if (pending.length >= maxPending) break
      if (!explicit || seen.has(path)) continue
      const { id, tail } = yield* tailOf(owner, path)
      const acked = link.streamId === id ? link.acked : 0
      if (tail > acked) pending.push({ path, streamId: id, explicit, acked, tail })
    }
    return pending
  })

  return { forMatching, tailOf, pendingOf }
})
