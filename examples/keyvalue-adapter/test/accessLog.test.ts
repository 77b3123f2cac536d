/** What the contract's suites cannot ask of every adapter: how this one starts, and what it does if the store fails. */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import {
  type BootstrapCredentialRepository,
  RepositoryError,
  Session,
  type SessionCredentialRepository
} from "@sallyport/core"
import { Effect, Layer } from "effect"
import { KeyValueStore } from "effect/persistence"
import * as KeyValueRepositories from "../src/KeyValueRepositories.ts"

const row: BootstrapCredentialRepository.PairingLinkRow = {
  id: "link",
  codeDigest: "digest",
  label: null,
  subject: "ada",
  scopes: ["runs:read"],
  proofKeyThumbprint: null,
  remainingUses: 2,
  createdBy: "operator",
  issuedBy: null,
  sessionLifetimeMillis: null,
  sessionEndsAtMillis: null,
  createdAtMillis: 1_000,
  expiresAtMillis: 9_000,
  revokedAtMillis: null
}

const insert = AccessRepository.use(({ links }) => links.insert(row, { actor: "operator", nowMillis: 1_000 }))
const session = (id: string): SessionCredentialRepository.SessionRow => ({
  id: Session.SessionId.make(id),
  subject: row.subject,
  method: "bearer-access-token",
  scopes: [],
  scopeRequest: null,
  proofKeyThumbprint: null,
  linkId: row.id,
  parentId: null,
  letInBy: "operator",
  client: null,
  device: new Session.Device({ label: null, kind: "program", userAgent: null, address: null }),
  tokenDigest: `token of ${id}`,
  keyId: "key",
  tokenExpiresAtMillis: null,
  refreshDigest: null,
  previousRefreshDigest: null,
  refreshedAtMillis: null,
  tokensUsedAtMillis: null,
  redemptionDigest: null,
  createdAtMillis: 2_000,
  lastSeenAtMillis: 2_000,
  expiresAtMillis: 9_000,
  lifetimeMillis: null,
  absoluteExpiresAtMillis: null,
  revokedAtMillis: null,
  revokedBy: null
})
const redeem = AccessRepository.use(({ links }) =>
  links.redeem(
    { codeDigest: "digest", session: session(crypto.randomUUID()), repeatMillis: 0, replaces: undefined },
    { actor: "system", nowMillis: 2_000 }
  )
)

/** The state as a client sees it. */
const look = AccessRepository.use(({ feed }) =>
  Effect.all({ events: feed.read({ after: 0, limit: 100 }), snapshot: feed.snapshot({ nowMillis: 2_000 }) })
)

/** Provides one start of the repositories on a store. */
const on = (store: KeyValueStore.KeyValueStore) =>
  Effect.provide(Layer.provide(KeyValueRepositories.layer, Layer.succeed(KeyValueStore.KeyValueStore, store)), {
    local: true
  })

const memory = Effect.provide(KeyValueStore.KeyValueStore, KeyValueStore.layerMemory, { local: true })

describe("the log of changes on a KeyValueStore", () => {
  it.effect("shows after a restart what it showed before", () =>
    Effect.gen(function*() {
      const store = yield* memory
      const before = yield* Effect.andThen(Effect.andThen(insert, redeem), look).pipe(on(store))
      assert.strictEqual(before.snapshot.revision, 3)
      assert.strictEqual(before.snapshot.pairingLinks[0]?.remainingUses, 1)
      assert.deepStrictEqual(yield* on(store)(look), before)
      const after = yield* Effect.andThen(redeem, look).pipe(on(store))
      assert.deepStrictEqual(after.events.map(({ revision }) => revision), [1, 2, 3, 4, 5])
      assert.deepStrictEqual(after.snapshot.pairingLinks, [])
    }))

  it.effect("fails if the store fails, and shows no change that was not stored", () =>
    Effect.gen(function*() {
      const store = yield* memory
      let full = false
      const failing: KeyValueStore.KeyValueStore = {
        ...store,
        set: (key, value) =>
          full
            ? Effect.fail(new KeyValueStore.KeyValueStoreError({ method: "set", key, message: "the disk is full" }))
            : store.set(key, value)
      }
      yield* Effect.gen(function*() {
        yield* insert
        const before = yield* look
        full = true
        const error = yield* Effect.flip(redeem)
        assert.instanceOf(error, RepositoryError.RepositoryError)
        assert.strictEqual(error.operation, "redeem")
        assert.deepStrictEqual(yield* look, before)
        full = false
        assert.strictEqual((yield* redeem)._tag, "Redeemed")
        assert.strictEqual((yield* look).snapshot.revision, 3)
      }).pipe(on(failing))
    }))

  it.effect("refuses to write beside another process, whose change it doesn't know", () =>
    Effect.gen(function*() {
      const store = yield* memory
      yield* Effect.gen(function*() {
        yield* insert
        yield* on(store)(redeem)
        const error = yield* Effect.flip(redeem)
        assert.include(String(error.cause), "change/2 is there already")
        assert.strictEqual((yield* look).snapshot.revision, 1)
      }).pipe(on(store))
      assert.strictEqual((yield* on(store)(look)).snapshot.pairingLinks[0]?.remainingUses, 1)
    }))

  it.effect("does not start on a change that is damaged", () =>
    Effect.gen(function*() {
      const store = yield* memory
      yield* on(store)(Effect.andThen(insert, redeem))
      const whole = yield* store.get("sallyport/change/2")
      yield* store.set("sallyport/change/2", whole?.slice(0, -20) ?? "")
      const error = yield* Effect.flip(on(store)(look))
      assert.strictEqual(error.operation, "load")
      assert.include(String(error.cause), "change/2 is damaged")
      assert.notInclude(String(error.cause), "digest")
    }))
})
