/**
 * Requests and decisions of several processes on one database.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import { type Decision } from "@sallyport/core/access/ConnectClientRepository"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { sharedDatabases } from "../../../../test-support/databases.ts"
import { clientOf } from "../../../../test-support/sharedDatabase.ts"
import type { Task } from "../programs/connecting.ts"
import { startRacers } from "../racers.ts"

const nowMillis = 1_800_000_000_000
const clients = ["a", "b", "c"].map((name) => name.repeat(43))
const decisions = ["rejected", "revoked", "blocked"] as const

const repositories = SqlAccessRepository.layer

/**
 * Lets clients in, has processes ask for them and redeem their grants without end, and turns each of them away meanwhile, by
 * a decision or by the mode: neither a session nor a grant is left of any.
 */
const race = Effect.fnUntraced(function*(database: Task["database"], by: "decisions" | "mode") {
  const repository = (yield* AccessRepository).clients
  const links = (yield* AccessRepository).links
  const sessions = (yield* AccessRepository).sessions
  const context = { actor: "owner", nowMillis }
  const decide = (proofKeyThumbprint: string, decision: Decision) =>
    repository.decide({
      proofKeyThumbprint,
      decision,
      reason: null,
      backOffMillis: 60_000,
      maxBackOffMillis: 60_000
    }, context)
  if (by === "mode") yield* repository.setMode({ mode: "account", trust: [] }, context)
  for (const proofKeyThumbprint of clients) {
    yield* repository.request(
      {
        proofKeyThumbprint,
        account: "ada",
        label: null,
        deviceType: "phone",
        verificationCode: "CODE",
        pendingMillis: 60_000,
        maxPending: 100,
        maxObserved: 100
      },
      undefined,
      context
    )
    if (by === "decisions") yield* decide(proofKeyThumbprint, "approved")
  }
  const task: Task = { database, clients, nowMillis }
  const lines = yield* startRacers("connecting.ts", [task, task, task])
  const live = sessions.list({ nowMillis, afterId: undefined, limit: 10_000 })
  // Every client has been let in by the time that the first is turned away.
  yield* Effect.repeat(Effect.map(live, (rows) => new Set(rows.map((row) => row.proofKeyThumbprint)).size), {
    until: (count) => count === clients.length,
    schedule: Schedule.spaced("5 millis")
  })
  if (by === "mode") yield* repository.setMode({ mode: "client-approval", trust: [] }, context)
  else yield* Effect.forEach(decisions, (decision, index) => decide(clients[index] ?? "", decision))
  const counts = yield* Effect.all(lines, { concurrency: "unbounded" })
  const total = counts.reduce((sum, text) => {
    const { granted }: { readonly granted: number } = JSON.parse(text)
    return sum + granted
  }, 0)
  assert.isAtLeast(total, clients.length)
  assert.deepStrictEqual(yield* links.list({ nowMillis, limit: 10 }), [])
  assert.deepStrictEqual(yield* live, [])
}, Effect.scoped)

for (const { database, name } of sharedDatabases) {
  const run = (by: "decisions" | "mode") =>
    Effect.flatMap(
      database,
      (shared) => race(shared, by).pipe(Effect.provide(Layer.provide(repositories, clientOf(shared))))
    ).pipe(Effect.scoped)

  describe(`requests of three processes on one database (${name})`, () => {
    it.live(
      "CONN-03 CONN-06 L-30 L-43: leave no grant and no session of a client that is rejected, revoked or blocked meanwhile",
      () => run("decisions"),
      300_000
    )

    it.live(
      "CONN-02 CONN-06 L-43: leave no grant and no session of a client that its account let in, once approval is turned on",
      () => run("mode"),
      300_000
    )
  })
}
