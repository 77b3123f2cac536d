/**
 * Who was given a credential: told to the access feed before the first time, and counted into it after that.
 */
import { AccessRepository } from "../../access/AccessRepository.ts"
import * as Metrics from "../../Metrics.ts"
import * as Outage from "../../Outage.ts"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { CredentialSource } from "../CredentialStatus.ts"
import { type CredentialError, stored } from "./credentialErrors.ts"
import type { Caller } from "./credentialRights.ts"

/**
 * Says whose credential was found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Found {
  readonly key: string
  readonly source: CredentialSource
  /** The owner in that scope; the host if the source is the environment. */
  readonly owner: string
  /** Which write the value is of; null if the source is the environment. */
  readonly revision: string | null
}

interface Reads {
  readonly subject: string
  readonly source: string
  readonly owner: string
  readonly key: string
  count: number
}

/** Makes the audit of reads, which counts repeated ones into the feed once per interval, and when the scope closes. */
export const make = Effect.fnUntraced(function*(
  intervalMillis: number
): Effect.fn.Return<
  (caller: Caller, found: Found) => Effect.Effect<void, CredentialError>,
  never,
  AccessRepository | Scope.Scope
> {
  const repository = (yield* AccessRepository).credentials
  const reads = new Map<string, Reads>()

  const recordReads = Effect.fnUntraced(function*({ key, owner, source, subject }: Reads, count: number) {
    const nowMillis = yield* Clock.currentTimeMillis
    yield* repository.recordRead({ source, owner, key, count }, { actor: subject, nowMillis })
  })

  /** Puts a read into the feed before the value is given out, or counts it if this caller has just read the same. */
  const audit = (caller: Caller, found: Found): Effect.Effect<void, CredentialError> =>
    Effect.andThen(tell(caller, found), Metrics.credentialReads(1, { source: found.source }))

  const tell = (caller: Caller, found: Found): Effect.Effect<void, CredentialError> =>
    Effect.suspend(() => {
      const { key, owner, revision, source } = found
      const id = JSON.stringify([caller.subject, source, owner, key, revision])
      const known = reads.get(id)
      if (known !== undefined) {
        known.count++
        return Effect.void
      }
      const first: Reads = { subject: caller.subject, source, owner, key, count: 0 }
      return stored(recordReads(first, 1)).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            if (!reads.has(id)) reads.set(id, first)
          })
        )
      )
    })

  const outage = Outage.make({
    of: "audit of reads",
    begins: "Repeated reads of credentials could not be counted into the access feed yet; it is tried again",
    ends: "Repeated reads of credentials are counted into the access feed again"
  })()
  // After the last flush, which may fail.
  yield* Effect.addFinalizer(() => outage.left)
  const flush = Effect.gen(function*() {
    for (const [id, entry] of Array.from(reads)) {
      const { count } = entry
      if (count === 0) {
        reads.delete(id)
        continue
      }
      entry.count = 0
      yield* recordReads(entry, count).pipe(
        Effect.andThen(outage.worked),
        Effect.catch((error) => {
          entry.count += count
          return outage.failed(Cause.fail(error))
        })
      )
    }
  })
  yield* Effect.addFinalizer(() => flush)
  yield* Effect.sleep(intervalMillis).pipe(Effect.andThen(flush), Effect.forever, Effect.forkScoped)

  return audit
})
