/**
 * Redeems pairing links as one of several processes on one database.
 *
 * The first line of standard input says where and what; the links are redeemed when the second arrives, so that several
 * of these begin together. What was won is the last line of standard output.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { Device, SessionId } from "@sallyport/core/access/Session"
import type { SessionRow } from "@sallyport/core/access/SessionCredentialRepository"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createInterface } from "node:readline"
import { clientOf, type SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

/** What a consumer is told: each digest is tried `rounds` times. */
export interface Task {
  readonly database: SharedDatabase
  readonly digests: ReadonlyArray<string>
  readonly rounds: number
  readonly nowMillis: number
}

const session = (nowMillis: number): SessionRow => {
  const id = crypto.randomUUID()
  return {
    id: SessionId.make(id),
    subject: "owner",
    method: "bearer-access-token",
    scopes: ["runs:read"],
    scopeRequest: null,
    proofKeyThumbprint: null,
    linkId: null,
    parentId: null,
    letInBy: "operator",
    client: null,
    device: new Device({ label: null, kind: "program", userAgent: null, address: null }),
    tokenDigest: `token-${id}`,
    keyId: "key-1",
    tokenExpiresAtMillis: null,
    refreshDigest: null,
    previousRefreshDigest: null,
    refreshedAtMillis: null,
    tokensUsedAtMillis: null,
    redemptionDigest: null,
    createdAtMillis: nowMillis,
    lastSeenAtMillis: nowMillis,
    expiresAtMillis: nowMillis + 60_000,
    lifetimeMillis: null,
    absoluteExpiresAtMillis: null,
    revokedAtMillis: null,
    revokedBy: null
  }
}

const lines = createInterface(process.stdin)[Symbol.asyncIterator]()

const program = Effect.gen(function*() {
  const { database, digests, nowMillis, rounds }: Task = JSON.parse(
    (yield* Effect.promise(() => lines.next())).value ?? ""
  )
  return yield* Effect.gen(function*() {
    const links = (yield* AccessRepository).links
    process.stdout.write("ready\n")
    yield* Effect.promise(() => lines.next())
    const attempts = Array.from({ length: rounds }, () => digests).flat()
    const outcomes = yield* Effect.forEach(
      attempts,
      (codeDigest) =>
        Effect.map(
          links.redeem(
            { codeDigest, session: session(nowMillis), repeatMillis: 0, replaces: undefined },
            { actor: "device", nowMillis }
          ),
          (outcome) => outcome._tag === "Redeemed" ? [codeDigest] : []
        ),
      { concurrency: 8 }
    )
    return outcomes.flat()
  }).pipe(Effect.provide(SqlAccessRepository.layer.pipe(Layer.provide(clientOf(database)))))
})

const won = await Effect.runPromise(program)
process.stdout.write(`${JSON.stringify(won)}\n`, () => process.exit(0))
