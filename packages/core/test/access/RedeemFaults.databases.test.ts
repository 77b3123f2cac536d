/**
 * What is left of a redemption and of a refresh when one of their statements fails, or the answer of the store is lost.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { databases } from "../../../../test-support/databases.ts"

/** Says which statement fails, counted from 1, and whether a step loses its answer after it was made. */
class Faults extends Context.Service<Faults, { statement: number; losesAnswer: boolean; seen: number }>()(
  "@sallyport/core/test/Faults"
) {
  static readonly layer = Layer.sync(Faults, () => Faults.of({ statement: 0, losesAnswer: false, seen: 0 }))
}

/** Tells whether a statement is one of the attempt that is cut: others run beside it. */
const IsCut = Context.Reference<boolean>("@sallyport/core/test/IsCut", { defaultValue: () => false })

const failing = (client: SqlClient.SqlClient, faults: Faults["Service"]): SqlClient.SqlClient =>
  new Proxy(client, {
    get: (target, name) => {
      if (name === "withoutTransforms") return () => failing(target.withoutTransforms(), faults)
      if (name !== "unsafe") return Reflect.get(target, name)
      return (sql: string, parameters?: ReadonlyArray<unknown>) => {
        const statement = target.unsafe(sql, parameters)
        return Effect.flatMap(IsCut, (isCut) =>
          isCut && ++faults.seen === faults.statement
            ? Effect.fail(
              new SqlError({
                reason: new ConnectionError({ cause: new Error("cut"), message: "cut", operation: "run" })
              })
            )
            : statement)
      }
    }
  })

/** Loses the answers of the two steps, after they were made. */
const losing = <Args extends ReadonlyArray<unknown>, A>(
  faults: Faults["Service"],
  operation: string,
  step: (...args: Args) => Effect.Effect<A, RepositoryError>
) =>
(...args: Args): Effect.Effect<A, RepositoryError> =>
  Effect.flatMap(step(...args), (answer) =>
    faults.losesAnswer
      ? new RepositoryError({ operation, reason: "Unavailable", outcome: "unknown", cause: new Error("cut") })
      : Effect.succeed(answer))

const store = Layer.effect(
  AccessRepository,
  Effect.gen(function*() {
    const faults = yield* Faults
    const real = yield* AccessRepository
    return AccessRepository.of({
      ...real,
      links: { ...real.links, redeem: losing(faults, "redeem", real.links.redeem) },
      sessions: { ...real.sessions, refresh: losing(faults, "refresh", real.sessions.refresh) }
    })
  })
).pipe(
  Layer.provide(
    SqlAccessRepository.layerStorage().pipe(
      Layer.provide(Layer.effect(
        SqlClient.SqlClient,
        Effect.gen(function*() {
          return failing(yield* SqlClient.SqlClient, yield* Faults)
        })
      ))
    )
  )
)

const services = <E>(database: Layer.Layer<SqlClient.SqlClient, E>) =>
  Layer.merge(
    BootstrapCredentialService.layer,
    SessionCredentialService.layerWith({ refresh: { tokenLifetime: "10 minutes" } })
  ).pipe(
    Layer.provideMerge(store),
    Layer.provideMerge(Layer.merge(Faults.layer, SecretStore.layerMemory)),
    Layer.provideMerge(NodeCrypto.layer),
    Layer.provide(SqlAccessRepository.layerMigrations()),
    Layer.provide(database)
  )

/** Makes an attempt again and again, each time cut after one statement more, until it is not cut any more. */
const cutAfterEach = Effect.fnUntraced(function*<A, E, E2, R2>(
  round: (
    cut: <B, E3, R3>(attempt: Effect.Effect<B, E3, R3>) => Effect.Effect<Exit.Exit<B, E3>, never, R3>
  ) => Effect.Effect<
    Exit.Exit<A, E>,
    E2,
    R2
  >
) {
  const faults = yield* Faults
  let statement = 0
  while (true) {
    statement++
    const exit = yield* round((attempt) =>
      Effect.suspend(() => {
        faults.seen = 0
        faults.statement = statement
        return Effect.map(Effect.exit(Effect.provideService(attempt, IsCut, true)), (exit) => {
          faults.statement = 0
          return exit
        })
      })
    )
    if (Exit.isSuccess(exit)) return statement - 1
  }
})

for (const { layer, name } of databases) {
  describe(`a redemption and a refresh that are cut (${name})`, () => {
    const attemptOf = (credential: Redacted.Redacted, attemptKey: string) =>
      BootstrapCredentialService.BootstrapCredentialService.use((links) =>
        links.redeem({ credential, method: "bearer-access-token", attemptKey: Redacted.make(attemptKey) })
      )
    const issue = BootstrapCredentialService.BootstrapCredentialService.use((links) =>
      links.issue({ issuedBy: "operator", scopes: ["runs:read"] })
    )
    const sessionIds = SessionCredentialService.SessionCredentialService.use((sessions) =>
      Effect.map(sessions.list(), (listed) => listed.map(({ session }) => session.id))
    )
    const isLetIn = (token: Redacted.Redacted) =>
      SessionCredentialService.SessionCredentialService.use((sessions) =>
        Effect.map(sessions.verify(token), ({ id }) => id)
      )

    it.live("BOOT-10 C-30: a redemption that fails at any statement leaves the code whole, and works when it is made again", () =>
      Effect.gen(function*() {
        let count = 0
        const statements = yield* cutAfterEach((cut) =>
          Effect.gen(function*() {
            const { code, link } = yield* issue
            const before = yield* sessionIds
            const exit = yield* cut(attemptOf(code, `attempt-${count++}`))
            if (Exit.isFailure(exit)) {
              assert.deepStrictEqual(yield* sessionIds, before)
              const open = yield* BootstrapCredentialService.BootstrapCredentialService.use((links) => links.list())
              assert.include(open.map(({ id }) => id), link.id)
            }
            const again = Exit.isSuccess(exit) ? exit.value : yield* attemptOf(code, `another-${count}`)
            assert.strictEqual(yield* isLetIn(again.token), again.session.id)
            assert.deepStrictEqual(yield* sessionIds, [...before, again.session.id])
            return exit
          })
        )
        assert.isAbove(statements, 5)
      }).pipe(Effect.provide(services(layer))))

    it.live("BOOT-10 C-31: a redemption whose answer is lost gives the same session to the same attempt, and to no other", () =>
      Effect.gen(function*() {
        const faults = yield* Faults
        const { code } = yield* issue
        faults.losesAnswer = true
        const lost = yield* Effect.flip(attemptOf(code, "the same attempt"))
        assert.strictEqual(lost.reason._tag, "BootstrapStoreUnavailable")
        faults.losesAnswer = false
        const [id, ...others] = yield* sessionIds
        assert.deepStrictEqual(others, [])
        const other = yield* Effect.flip(attemptOf(code, "another attempt"))
        assert.strictEqual(other.reason._tag, "InvalidCredential")
        const tokens = new Set<string>()
        for (let again = 0; again < 3; again++) {
          const { refreshToken, session, token } = yield* attemptOf(code, "the same attempt")
          assert.strictEqual(session.id, id)
          assert.strictEqual(yield* isLetIn(token), id)
          tokens.add(`${Redacted.value(token)} ${Redacted.value(refreshToken ?? token)}`)
        }
        assert.strictEqual(tokens.size, 1)
        assert.strictEqual((yield* sessionIds).length, 1)
      }).pipe(Effect.provide(services(layer))))

    it.live("SESS-16: a refresh that fails at any statement, or whose answer is lost, leaves a token that works", () =>
      Effect.gen(function*() {
        const faults = yield* Faults
        const sessions = yield* SessionCredentialService.SessionCredentialService
        const { refreshToken: first, session } = yield* sessions.issue({
          subject: "ada",
          scopes: [],
          method: "bearer-access-token"
        })
        let refreshToken = first ?? Redacted.make("")
        const statements = yield* cutAfterEach((cut) =>
          Effect.gen(function*() {
            const exit = yield* cut(sessions.refresh(refreshToken))
            const next = Exit.isSuccess(exit) ? exit.value : yield* sessions.refresh(refreshToken)
            assert.strictEqual(yield* isLetIn(next.token), session.id)
            refreshToken = next.refreshToken
            return exit
          })
        )
        assert.isAbove(statements, 2)
        faults.losesAnswer = true
        yield* Effect.flip(sessions.refresh(refreshToken))
        faults.losesAnswer = false
        const again = yield* sessions.refresh(refreshToken)
        const once = yield* sessions.refresh(refreshToken)
        assert.strictEqual(Redacted.value(again.token), Redacted.value(once.token))
        assert.strictEqual(yield* isLetIn(again.token), session.id)
        const next = yield* sessions.refresh(again.refreshToken)
        assert.strictEqual(yield* isLetIn(next.token), session.id)
      }).pipe(Effect.provide(services(layer))))
  })
}
