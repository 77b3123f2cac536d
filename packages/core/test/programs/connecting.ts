/**
 * Has connect clients ask, each with a grant, and redeems every other grant as the token endpoint does, as one of several
 * processes on one database.
 *
 * The first line of standard input says where and which; they ask when the second arrives, so that several of these begin
 * together, and again and again until each was refused. The outcomes, counted, are the last line of standard output.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { Device, SessionId } from "@sallyport/core/access/Session"
import type { SessionRow } from "@sallyport/core/access/SessionCredentialRepository"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createInterface } from "node:readline"
import { clientOf, type SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

/** What a process is told. */
export interface Task {
  readonly database: SharedDatabase
  readonly nowMillis: number
  readonly clients: ReadonlyArray<string>
}

const repositories = SqlAccessRepository.layer

const lines = createInterface(process.stdin)[Symbol.asyncIterator]()

const program = Effect.gen(function*() {
  const { clients, database, nowMillis }: Task = JSON.parse((yield* Effect.promise(() => lines.next())).value ?? "")
  return yield* Effect.gen(function*() {
    const repository = (yield* AccessRepository).clients
    const links = (yield* AccessRepository).links
    const change = { actor: "client", nowMillis }
    const redeem = Effect.fnUntraced(function*(id: string, proofKeyThumbprint: string) {
      const session: SessionRow = {
        id: SessionId.make(id),
        subject: "owner",
        method: "dpop-access-token",
        scopes: [],
        scopeRequest: null,
        proofKeyThumbprint,
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
      yield* links.redeem({ codeDigest: `digest-of-${id}`, session, repeatMillis: 0, replaces: undefined }, change)
    })
    process.stdout.write("ready\n")
    yield* Effect.promise(() => lines.next())
    const counts = { granted: 0 }
    yield* Effect.forEach(clients, (proofKeyThumbprint) =>
      Effect.gen(function*() {
        while (true) {
          const id = crypto.randomUUID()
          const outcome = yield* repository.request({
            proofKeyThumbprint,
            account: "ada",
            label: null,
            deviceType: "phone",
            verificationCode: "CODE",
            pendingMillis: 60_000,
            // Whom the owner turned away can't start over, which would end by itself what was left to it.
            maxPending: 0,
            maxObserved: 100
          }, {
            id,
            codeDigest: `digest-of-${id}`,
            label: null,
            subject: "owner",
            scopes: [],
            proofKeyThumbprint,
            remainingUses: 1,
            createdBy: "connect",
            issuedBy: null,
            sessionLifetimeMillis: null,
            sessionEndsAtMillis: null,
            createdAtMillis: nowMillis,
            expiresAtMillis: nowMillis + 60_000,
            revokedAtMillis: null
          }, { actor: "ada", nowMillis })
          if (outcome._tag !== "Granted") break
          if (counts.granted++ % 2 === 0) yield* redeem(id, proofKeyThumbprint)
        }
      }), { concurrency: 4 })
    return counts
  }).pipe(Effect.provide(repositories.pipe(Layer.provide(clientOf(database)))))
})

const counts = await Effect.runPromise(program)
process.stdout.write(`${JSON.stringify(counts)}\n`, () => process.exit(0))
