/**
 * What a relay keeps of the answers that it believed, and what it makes of them.
 */
import { assert, describe, it } from "@effect/vitest"
import type { EnvironmentHealth, ProofView } from "@sallyport/contract/ConnectProtocol"
import { RelayEnvironmentRepository } from "@sallyport/connect/RelayEnvironmentRepository"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { decodeJwt, decodeProtectedHeader } from "jose"
import { key, startEnvironment, startRelay, stores } from "./world.ts"

interface Page {
  readonly proofs: ReadonlyArray<ProofView>
  readonly next: string | null
}

for (const store of stores) {
  describe(`a relay's proofs on ${store}`, () => {
    it.live("CONN-12: say of each client what it was answered, in the environment's own word, and hold no credential", () =>
      Effect.gen(function*() {
        const relay = yield* startRelay(store)
        const environment = yield* startEnvironment(store, relay)
        const pending = yield* environment.connect("a")
        assert.strictEqual(pending.answer.status, "pending_approval")
        yield* environment.connect("b")
        const wait = yield* Effect.forkChild(relay.call("/api/relay/await-decision", {
          key: "a",
          payload: { environmentId: environment.id, requestedAt: pending.answer.requestedAt, waitSeconds: 30 }
        }))
        yield* environment.decide("a", "approved")
        assert.deepStrictEqual(yield* Fiber.join(wait), { status: 200, body: { approvalStatus: "approved" } })
        const connected = yield* environment.connect("a")
        assert.strictEqual(connected.answer.status, "credential")
        yield* environment.decide("b", "rejected")
        assert.strictEqual((yield* environment.connect("b")).answer.status, "refused")

        const page = (yield* relay.call<Page>("/api/relay/proofs")).body
        assert.deepStrictEqual(page.proofs.map((proof) => [proof.clientProofKeyThumbprint[0], proof.status]), [
          ["b", "refused"],
          ["a", "credential"],
          ["a", "decision"],
          ["b", "pending_approval"],
          ["a", "pending_approval"]
        ])
        assert.isNull(page.next)
        for (const proof of page.proofs) {
          const claims = decodeJwt(proof.proof)
          assert.deepInclude(claims, {
            iss: environment.id,
            account: "ada",
            status: proof.status,
            requestId: proof.requestId,
            clientProofKeyThumbprint: proof.clientProofKeyThumbprint
          })
          assert.strictEqual(claims.requestedAt ?? null, proof.requestedAt)
          assert.strictEqual(decodeProtectedHeader(proof.proof).kid, proof.keyId)
        }
        assert.notInclude(JSON.stringify(page), String(connected.answer.credential))
        assert.deepStrictEqual((yield* relay.call<Page>("/api/relay/proofs", { account: "eve" })).body, {
          proofs: [],
          next: null
        })
      }).pipe(Effect.scoped))

    it.live("are read in pages, and stay bounded however many clients of an account ask", () =>
      Effect.gen(function*() {
        const relay = yield* startRelay(store)
        const environment = yield* startEnvironment(store, relay)
        const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
        // An environment lets twenty wait, and turns the others away. Of two, those are more than the relay keeps.
        yield* Effect.forEach(letters, environment.connect, { concurrency: 4 })
        const pages: Array<ProofView> = []
        const first = (yield* relay.call<Page>("/api/relay/proofs")).body
        pages.push(...first.proofs)
        assert.isNull(first.next)
        assert.deepStrictEqual(
          [pages.filter(({ status }) => status === "pending_approval").length, pages.length],
          [20, letters.length]
        )
        const second = yield* startEnvironment(store, relay)
        yield* Effect.forEach(letters, second.connect, { concurrency: 4 })
        const next = (yield* relay.call<Page>("/api/relay/proofs")).body
        assert.strictEqual(next.proofs.length, 100)
        const rest = (yield* relay.call<Page>(`/api/relay/proofs?after=${next.next}`)).body
        assert.strictEqual(rest.proofs.length, 20)
        assert.isNull(rest.next)
        assert.strictEqual(new Set([...next.proofs, ...rest.proofs].map(({ requestId }) => requestId)).size, 120)
        assert.strictEqual((yield* relay.call("/api/relay/proofs?after=-1.x")).status, 400)
      }).pipe(Effect.scoped))

    it.live("are what a relay waits by: of a request that no environment called pending, none is asked", () =>
      Effect.gen(function*() {
        const relay = yield* startRelay(store)
        const environment = yield* startEnvironment(store, relay)
        const { answer } = yield* environment.connect("a")
        const request = { environmentId: environment.id, requestedAt: Number(answer.requestedAt) }
        const wait = (client: string, account: string, asked: typeof request) =>
          Effect.map(
            relay.call("/api/relay/await-decision", { account, key: client, payload: { ...asked, waitSeconds: 0 } }),
            ({ status }) => status
          )
        const follow = (client: string, account: string, asked: typeof request) =>
          Effect.map(
            relay.call(
              `/api/relay/decisions?${new URLSearchParams({ ...asked, requestedAt: `${asked.requestedAt}` })}`,
              {
                account,
                key: client
              }
            ),
            ({ status }) => status
          )
        assert.strictEqual(yield* wait("a", "ada", request), 200)
        // From here on the environment would answer nothing, and the relay would say so with a 503.
        yield* relay.run(RelayEnvironmentRepository.use((environments) =>
          Effect.gen(function*() {
            const [row] = yield* environments.list({ account: "ada", limit: 1 })
            assert.isDefined(row)
            yield* environments.link({ ...row, url: "http://127.0.0.1:1" })
          })
        ))
        assert.strictEqual(yield* wait("a", "ada", request), 503)
        for (const ask of [wait, follow]) {
          assert.strictEqual(yield* ask("b", "ada", request), 404)
          assert.strictEqual(yield* ask("a", "eve", request), 404)
          assert.strictEqual(yield* ask("a", "ada", { ...request, requestedAt: request.requestedAt + 1 }), 404)
        }
      }).pipe(Effect.scoped))
  })
}

describe("the health of an environment", () => {
  it.live("is told to its account: that it answers, that it does not, or that its answer is not to be believed", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay("memory")
      const environment = yield* startEnvironment("memory", relay)
      const health = (account?: string) =>
        relay.call<EnvironmentHealth>(
          `/api/relay/environments/${environment.id}/health`,
          account === undefined ? {} : { account }
        )
      assert.deepStrictEqual(yield* health(), { status: 200, body: { status: "healthy", message: null } })
      assert.strictEqual((yield* health("eve")).status, 404)
      assert.strictEqual((yield* relay.call("/api/relay/environments/other/health")).status, 404)

      const environments = yield* relay.run(RelayEnvironmentRepository)
      const [row] = yield* environments.list({ account: "ada", limit: 1 })
      assert.isDefined(row)
      yield* environments.link({ ...row, keyX: key("A"), keyId: key("A") })
      assert.strictEqual((yield* health()).body.status, "refused")
      yield* environments.link({ ...row, url: "http://127.0.0.1:1" })
      const unreachable = yield* health()
      assert.strictEqual(unreachable.body.status, "unreachable")
      assert.include(unreachable.body.message ?? "", environment.id)
      yield* environments.link(row)
      assert.strictEqual((yield* health()).body.status, "healthy")
    }).pipe(Effect.scoped))
})
