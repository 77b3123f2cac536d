/**
 * Nodes on one database whose machines do not agree on the time of day.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as SqlClock from "@sallyport/core/sql/SqlClock"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Clocks from "../../../../test-support/clock.ts"
import { databases } from "../../../../test-support/databases.ts"

/** Starts a node whose own clock is ahead of the real one. */
const startNode = Effect.fnUntraced(function*(ahead: Duration.Input) {
  const real = yield* Clock.Clock
  const clock = Clocks.telling(() => real.currentTimeMillisUnsafe() + Duration.toMillis(ahead), real)
  const services = Layer.mergeAll(
    BootstrapCredentialService.layer,
    SessionCredentialService.layerWith({ lifetime: "2 minutes", refresh: { tokenLifetime: "1 minute" } })
  ).pipe(
    Layer.provide(Layer.merge(SqlRepositories.layer, SqlSecretStore.layer)),
    Layer.provideMerge(SqlClock.layer),
    Layer.provide(NodeCrypto.layer)
  )
  const context = yield* Effect.provideService(Layer.build(Layer.fresh(services)), Clock.Clock, clock)
  return {
    run: <A, E>(effect: Effect.Effect<A, E, SessionCredentialService.SessionCredentialService>) =>
      effect.pipe(Effect.provideContext(context), Effect.provideService(Clock.Clock, clock)),
    links: Context.get(context, BootstrapCredentialService.BootstrapCredentialService),
    sessions: Context.get(context, SessionCredentialService.SessionCredentialService)
  }
})

const nodes: ReadonlyArray<readonly [Duration.Duration, Duration.Duration]> = [
  [Duration.seconds(31), Duration.zero],
  [Duration.minutes(5), Duration.zero],
  [Duration.zero, Duration.minutes(5)],
  [Duration.hours(25), Duration.negate(Duration.minutes(5))]
]

for (const { layer, name } of databases) {
  describe(`two nodes whose clocks differ (${name})`, () => {
    for (const [aheadOfA, aheadOfB] of nodes) {
      const apart = `${Duration.format(aheadOfA)} and ${Duration.format(aheadOfB)} ahead`
      it.live(
        `C-33 OPS-05 SESS-16: what one issued is good on the other, and what one ended is not (${apart})`,
        () =>
          Effect.gen(function*() {
            const a = yield* startNode(aheadOfA)
            const b = yield* startNode(aheadOfB)
            for (const [here, there] of [[a, b], [b, a]] as const) {
              const issue = here.run(here.links.issue({ issuedBy: "operator", scopes: [], lifetime: "1 minute" }))
              const { code } = yield* issue
              const redemption = { credential: code, method: "bearer-access-token" } as const
              yield* there.run(there.links.preview(redemption))
              const { refreshToken = Redacted.make(""), session, token } = yield* there.run(
                there.links.redeem({ ...redemption, attemptKey: Redacted.make("attempt") })
              )
              // The answer was lost, and the device asks the other node.
              const again = yield* here.run(
                here.links.redeem({ ...redemption, attemptKey: Redacted.make("attempt") })
              )
              assert.strictEqual(Redacted.value(again.token), Redacted.value(token))

              yield* here.run(here.sessions.verify(token))
              const ticket = yield* there.run(there.sessions.issueTicket(session))
              assert.strictEqual((yield* here.run(here.sessions.consumeTicket(ticket))).id, session.id)

              const refreshed = yield* there.run(there.sessions.refresh(refreshToken))
              const repeated = yield* here.run(here.sessions.refresh(refreshToken))
              assert.strictEqual(Redacted.value(repeated.refreshToken), Redacted.value(refreshed.refreshToken))
              assert.strictEqual(Redacted.value(repeated.token), Redacted.value(refreshed.token))
              yield* here.run(here.sessions.verify(refreshed.token))

              const open = yield* issue
              const late = yield* there.run(there.sessions.issueTicket(session))
              yield* there.run(there.links.revoke(open.link.id, "operator"))
              yield* there.run(there.sessions.revoke(session.id, "operator"))
              const refused = { ...redemption, credential: open.code }
              assert.strictEqual(
                (yield* Effect.flip(here.run(here.links.redeem(refused)))).reason._tag,
                "InvalidCredential"
              )
              assert.strictEqual(
                (yield* Effect.flip(here.run(here.sessions.consumeTicket(late)))).reason._tag,
                "TicketRefused"
              )
              assert.strictEqual(
                (yield* Effect.flip(here.run(here.sessions.refresh(refreshed.refreshToken)))).reason._tag,
                "RefreshRefused"
              )

              const { code: brief } = yield* here.run(
                here.links.issue({ issuedBy: "operator", scopes: [], lifetime: "50 millis" })
              )
              // The slower the database answers, the less exactly a node knows its time.
              yield* there.run(there.links.preview({ ...redemption, credential: brief })).pipe(
                Effect.repeat({ schedule: Schedule.spaced("20 millis") }),
                Effect.flip
              )
              const tooLate = there.run(there.links.redeem({ ...redemption, credential: brief }))
              assert.deepInclude((yield* Effect.flip(tooLate)).reason, { _tag: "InvalidCredential", ended: "expired" })
            }
          }).pipe(Effect.scoped, Effect.provide(layer)),
        60_000
      )
    }
  })
}
