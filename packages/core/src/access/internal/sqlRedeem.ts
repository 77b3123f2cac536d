/**
 * Redeems pairing links in SQL: the one step on links, sessions and clients together.
 *
 * On PostgreSQL it takes its locks in the order of the other steps: the row of the mode, the session that is replaced, the
 * link, the feed's head. The link's lock makes the attempts on one code follow each other.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlKit } from "../../sql/SqlKit.ts"
import {
  type BootstrapCredentialRepository,
  type PairingLinkRow,
  type RedeemOutcome,
  refusal,
  used
} from "../BootstrapCredentialRepository.ts"
import type * as SqlClients from "./sqlClients.ts"
import type * as SqlEnds from "./sqlEnds.ts"
import type { Append } from "./sqlFeed.ts"
import type * as SqlLinks from "./sqlLinks.ts"
import type * as SqlSessions from "./sqlSessions.ts"

/** Makes the step that redeems a link. */
export const make = ({ transaction }: SqlKit, append: Append, has: {
  readonly ends: ReturnType<typeof SqlEnds.make>
  readonly links: ReturnType<typeof SqlLinks.make>
  readonly sessions: ReturnType<typeof SqlSessions.make>
  readonly clients: ReturnType<typeof SqlClients.make>
}): BootstrapCredentialRepository["redeem"] =>
({ codeDigest, repeatMillis, replaces, session }, change) =>
  Effect.gen(function*(): Effect.fn.Return<RedeemOutcome, unknown> {
    const { nowMillis } = change
    const { proofKeyThumbprint, redemptionDigest } = session
    const isAllowed = proofKeyThumbprint === null ? undefined : yield* has.clients.lookAt(proofKeyThumbprint)
    if (replaces !== undefined) yield* has.sessions.lock(replaces)
    const found = Option.getOrUndefined(yield* has.links.byDigestLocked(codeDigest))
    if (redemptionDigest !== null) {
      const before = yield* has.sessions.redeemedBy(redemptionDigest, { nowMillis, repeatMillis })
      if (Option.isSome(before)) return { _tag: "Repeated", session: before.value }
    }
    const reason = refusal(found, { ...session, nowMillis })
    if (found === undefined || reason !== undefined) return { _tag: "Refused", reason: reason ?? "unknown" }
    if (isAllowed?.(found) === false) return { _tag: "Refused", reason: "client-not-admitted" }
    yield* has.links.takeUse(found.id)
    const ended = replaces === undefined
      ? []
      : (yield* has.ends.end({ _tag: "Session", id: replaces }, change)).changes
    const begun = yield* has.sessions.begin(session, "redeem")
    const link: PairingLinkRow = { ...found, remainingUses: found.remainingUses - 1 }
    yield* append([used(link), ...ended, begun], change)
    return { _tag: "Redeemed", link }
  }).pipe(transaction("redeem"))
