/**
 * Keys replaced on both sides of a link while clients connect, interrupted after each step, and the end of a link.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as EnvironmentLink from "@sallyport/connect/EnvironmentLink"
import * as Identity from "@sallyport/connect/Identity"
import * as Linking from "@sallyport/connect/Linking"
import * as RelayKeyRotation from "@sallyport/connect/RelayKeyRotation"
import { type EnvironmentHealth, typ } from "@sallyport/contract/ConnectProtocol"
import { RelayEnvironmentRepository } from "@sallyport/connect/RelayEnvironmentRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { decodeProtectedHeader } from "jose"
import * as Jwt from "../src/internal/jwt.ts"
import { type Environment, type Relay, startEnvironment, startRelay, type Store, stores } from "./world.ts"

/** Makes an identity that names its key by the thumbprint of another. */
const misnamed = Effect.fnUntraced(function*(name: string, kid: string) {
  const secrets = yield* SecretStore.SecretStore
  const { privateKey, publicKey } = yield* Jwt.keyPairOf(Option.getOrThrow(yield* secrets.get(name)))
  const key = { privateKey, publicKey: { ...publicKey, kid } }
  const identity: Identity.Identity = {
    publicKey: key.publicKey,
    sign: (typ, claims) => Jwt.sign(key, { typ, claims, lifetimeSeconds: 60 })
  }
  return identity
})

/** Starts a relay and an environment with a client that may connect. */
const start = Effect.fnUntraced(function*(store: Store) {
  const relay = yield* startRelay(store)
  const environment = yield* startEnvironment(store, relay)
  yield* environment.connect("a")
  yield* environment.decide("a", "approved")
  return { relay, environment }
})

const rowOf = (relay: Relay, environment: Environment) =>
  relay.run(
    RelayEnvironmentRepository.use((environments) =>
      Effect.map(environments.findById(environment.id), Option.getOrThrow)
    )
  )

const linkOf = (environment: Environment) => Effect.map(environment.run(EnvironmentLink.get), Option.getOrThrow)

/** Connects the client that may, and returns the key that the environment answered with. */
const connects = Effect.fnUntraced(function*(environment: Environment) {
  const { answer, body, status } = yield* environment.connect("a")
  assert.strictEqual(status, 200, JSON.stringify(body))
  assert.strictEqual(answer.status, "credential")
  return decodeProtectedHeader(String(answer.proof)).kid ?? ""
})

const healthOf = (relay: Relay, environment: Environment) =>
  Effect.map(
    relay.call<EnvironmentHealth>(`/api/relay/environments/${environment.id}/health`),
    ({ body }) => body.status
  )

/** Cuts a program off when it has made so many steps outside of itself: on the network, or on a store. */
const makeFuse = (steps: number) => {
  let left = steps
  return <A, E, R>(step: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(step, (answer) => --left === 0 ? Effect.interrupt : Effect.succeed(answer))
}

const fusedSecrets = (fuse: ReturnType<typeof makeFuse>) =>
  Effect.map(SecretStore.SecretStore, (secrets) =>
    SecretStore.SecretStore.of({
      ...secrets,
      get: (name) => fuse(secrets.get(name)),
      set: (name, value) => fuse(secrets.set(name, value)),
      create: (name, value) => fuse(secrets.create(name, value)),
      getOrCreateRandom: (name, length) => fuse(secrets.getOrCreateRandom(name, length)),
      modify: (name, f) => fuse(secrets.modify(name, f)),
      remove: (name) => fuse(secrets.remove(name))
    }))

/** Replaces an environment's key, cut off after so many steps. */
const rotateCut = (steps: number) => {
  const fuse = makeFuse(steps)
  return Linking.rotateKey.pipe(
    Effect.provideServiceEffect(SecretStore.SecretStore, fusedSecrets(fuse)),
    Effect.provideServiceEffect(
      HttpClient.HttpClient,
      Effect.map(HttpClient.HttpClient, HttpClient.transformResponse(fuse))
    )
  )
}

/** Replaces a relay's key, cut off after so many steps. */
const rotateRelayCut = (steps: number) => {
  const fuse = makeFuse(steps)
  return RelayKeyRotation.rotate().pipe(
    Effect.provideServiceEffect(SecretStore.SecretStore, fusedSecrets(fuse)),
    Effect.provideServiceEffect(
      RelayEnvironmentRepository,
      Effect.map(RelayEnvironmentRepository, (environments) =>
        RelayEnvironmentRepository.of({
          ...environments,
          confirmRelayKey: (options) => fuse(environments.confirmRelayKey(options)),
          listUnconfirmed: (options) => fuse(environments.listUnconfirmed(options))
        }))
    ),
    Effect.provideServiceEffect(
      EnvironmentConnector.EnvironmentConnector,
      Effect.map(
        EnvironmentConnector.EnvironmentConnector,
        (connector) =>
          EnvironmentConnector.EnvironmentConnector.of({
            ...connector,
            tellKey: (environment, key) => fuse(connector.tellKey(environment, key))
          })
      )
    )
  )
}

const post = (url: string, payload: unknown) =>
  Effect.promise(async (signal) => {
    const response = await fetch(url, {
      signal,
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(payload)
    })
    await response.arrayBuffer()
    return response.status
  })

for (const store of stores) {
  describe(`an environment's key on ${store}`, () => {
    it.live("is replaced, interrupted after each of its steps and made again, and no answer is refused in between", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const { id, run } = environment
        const keys = new Set([yield* connects(environment)])
        let cuts = 0
        while (true) {
          const exit = yield* Effect.exit(run(rotateCut(cuts + 1)))
          yield* connects(environment)
          assert.strictEqual(yield* healthOf(relay, environment), "healthy")
          if (Exit.isSuccess(exit)) break
          cuts++
          const { keyId, previousUntilMillis } = yield* run(Linking.rotateKey)
          assert.isNotNull(previousUntilMillis)
          assert.strictEqual(yield* connects(environment), keyId)
          const row = yield* rowOf(relay, environment)
          assert.deepInclude(row, { id, keyId, nextKeyId: null, previousUntilMillis })
          assert.isFalse(keys.has(keyId), "a key is not used twice")
          keys.add(keyId)
        }
        // The link, the keys, what is next, the request, the end, the second request.
        assert.isAtLeast(cuts, 6)
      }).pipe(Effect.scoped))

    it.live("is believed beside the one before it, which ends soon after the relay has seen the new one used", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const { run } = environment
        const before = yield* connects(environment)
        const secrets = yield* run(SecretStore.SecretStore)
        const seed = Option.getOrThrow(yield* secrets.get(Identity.environmentKeyName))

        // Told to the relay and not yet in use: the relay has no reason to end anything.
        const exit = yield* Effect.exit(run(rotateCut(4)))
        assert.strictEqual(exit._tag, "Failure")
        const { next } = yield* run(Identity.ring(Identity.environmentKeyName))
        const announced = Option.getOrThrow(next).identity.publicKey.kid
        assert.deepInclude(yield* rowOf(relay, environment), {
          keyId: before,
          nextKeyId: announced,
          previousKeyId: null
        })
        assert.strictEqual(yield* connects(environment), before)

        // In use, and the relay not told: it sees so by the first answer.
        yield* run(Identity.finish(Identity.environmentKeyName, announced))
        assert.strictEqual(yield* connects(environment), announced)
        const adopted = yield* rowOf(relay, environment)
        assert.deepInclude(adopted, { keyId: announced, nextKeyId: null, previousKeyId: before })
        assert.isAbove(adopted.previousUntilMillis ?? 0, Date.now() + 500_000)
        assert.isBelow(adopted.previousUntilMillis ?? 0, Date.now() + 601_000)

        // A process of the environment that has the old key in use.
        yield* secrets.set(Identity.environmentKeyName, seed)
        assert.strictEqual(yield* connects(environment), before)
        yield* relay.run(RelayEnvironmentRepository.use((environments) => environments.link(adopted)))
        const refused = yield* environment.connect("a")
        assert.deepInclude(refused, { status: 503 })
        assert.strictEqual(yield* healthOf(relay, environment), "refused")
      }).pipe(Effect.scoped))

    it.live("is replaced by no caller that lacks either key", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const { run } = environment
        const { relayId } = yield* linkOf(environment)
        const old = yield* run(Identity.load(Identity.environmentKeyName))
        yield* run(Linking.rotateKey)
        const present = yield* run(Identity.load(Identity.environmentKeyName))
        const stranger = yield* run(Identity.load("stranger"))
        const other = yield* run(Identity.load("other"))
        const row = yield* rowOf(relay, environment)
        const parties = { iss: environment.id, aud: relayId }
        const rotate = Effect.fnUntraced(function*(
          by: Identity.Identity,
          to: Identity.Identity,
          possession: Effect.Effect<string>,
          claims: Readonly<Record<string, unknown>> = {}
        ) {
          const proof = yield* by.sign(typ.rotateKey, { ...parties, key: to.publicKey, ...claims })
          return yield* post(`${relay.url}/api/relay/environments/rotate-key`, {
            environmentId: environment.id,
            proof,
            possession: yield* possession
          })
        })
        const possesses = (identity: Identity.Identity, claims: Readonly<Record<string, unknown>> = parties) =>
          identity.sign(typ.keyPossession, claims)
        const renamed = yield* run(misnamed("stranger", other.publicKey.kid))
        const attempts = [
          rotate(stranger, stranger, possesses(stranger)),
          rotate(old, stranger, possesses(stranger)),
          rotate(present, stranger, possesses(present)),
          rotate(present, stranger, possesses(other)),
          rotate(present, stranger, possesses(stranger, { ...parties, aud: "another" })),
          rotate(present, stranger, stranger.sign(typ.unlink, parties)),
          rotate(present, stranger, possesses(stranger), { aud: "another" }),
          rotate(present, stranger, possesses(stranger), { iss: "another" }),
          rotate(present, stranger, possesses(stranger), { more: true }),
          rotate(present, renamed, possesses(renamed))
        ]
        for (const [index, attempt] of attempts.entries()) assert.strictEqual(yield* attempt, 401, `attempt ${index}`)
        assert.deepStrictEqual(yield* rowOf(relay, environment), row)
        assert.strictEqual(yield* rotate(present, stranger, possesses(stranger)), 200)
        assert.strictEqual((yield* rowOf(relay, environment)).nextKeyId, stranger.publicKey.kid)
      }).pipe(Effect.scoped))
  })

  describe(`a stolen key on ${store}`, () => {
    it.live("is good for nothing once its environment is linked again with a new one", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const { run } = environment
        const { relayId } = yield* linkOf(environment)
        const stolen = yield* run(Identity.load(Identity.environmentKeyName))
        const theirs = yield* run(Identity.load("theirs"))
        const parties = { iss: environment.id, aud: relayId }
        const rotate = Effect.fnUntraced(function*(by: Identity.Identity) {
          return yield* post(`${relay.url}/api/relay/environments/rotate-key`, {
            environmentId: environment.id,
            proof: yield* by.sign(typ.rotateKey, { ...parties, key: theirs.publicKey }),
            possession: yield* theirs.sign(typ.keyPossession, parties)
          })
        })
        assert.deepStrictEqual([yield* rotate(stolen), yield* rotate(theirs)], [200, 200])
        assert.strictEqual((yield* Effect.flip(run(Linking.rotateKey)))._tag, "LinkFailed")
        const { environmentId } = yield* environment.linkWith({ newKey: true })
        assert.strictEqual(environmentId, environment.id)
        assert.notInclude([stolen.publicKey.kid, theirs.publicKey.kid], yield* connects(environment))
        assert.deepStrictEqual([yield* rotate(stolen), yield* rotate(theirs)], [401, 401])
        const { keyId } = yield* run(Linking.rotateKey)
        assert.strictEqual(yield* connects(environment), keyId)
      }).pipe(Effect.scoped))
  })

  describe(`a relay's key on ${store}`, () => {
    it.live("is replaced, interrupted after each of its steps and made again, and every environment answers in between", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const second = yield* startEnvironment(store, relay)
        const { relayId } = yield* linkOf(environment)
        let cuts = 0
        while (true) {
          const exit = yield* Effect.exit(relay.run(rotateRelayCut(cuts + 1)))
          yield* connects(environment)
          assert.strictEqual(yield* healthOf(relay, second), "healthy")
          if (Exit.isSuccess(exit)) break
          cuts++
          const { finished, keyId, unconfirmed } = yield* relay.run(RelayKeyRotation.rotate())
          assert.deepStrictEqual({ finished, unconfirmed }, { finished: true, unconfirmed: [] })
          for (const each of [environment, second]) {
            assert.strictEqual(yield* healthOf(relay, each), "healthy")
            assert.strictEqual((yield* rowOf(relay, each)).relayKeyId, keyId)
            const link = yield* linkOf(each)
            assert.strictEqual(link.relayId, relayId)
            assert.deepStrictEqual(
              link.relayKeys.filter(({ untilMillis }) => untilMillis === undefined).map(({ kid }) => kid),
              [keyId]
            )
          }
          const { current, next } = yield* relay.run(Identity.ring(Identity.relayKeyName))
          assert.deepStrictEqual([current.publicKey.kid, Option.isNone(next)], [keyId, true])
        }
        // The keys, what is next, the list, two environments told and confirmed, the end.
        assert.isAtLeast(cuts, 8)
      }).pipe(Effect.scoped))

    it.live("waits for an environment that is away, and is told at once to one that is linked meanwhile", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const environments = yield* relay.run(RelayEnvironmentRepository)
        const away = (row: { readonly relayKeyId: string | null }) =>
          Effect.flatMap(
            rowOf(relay, environment),
            (present) => environments.link({ ...present, ...row, url: "http://127.0.0.1:1" })
          )
        const back = Effect.flatMap(
          rowOf(relay, environment),
          (present) => environments.link({ ...present, url: environment.url })
        )
        const before = yield* rowOf(relay, environment)
        yield* away(before)
        const first = yield* relay.run(RelayKeyRotation.rotate())
        assert.isFalse(first.finished)
        assert.deepStrictEqual(first.unconfirmed.map(({ environmentId }) => environmentId), [environment.id])
        const second = yield* startEnvironment(store, relay)
        assert.strictEqual((yield* rowOf(relay, second)).relayKeyId, first.keyId)
        assert.strictEqual(yield* healthOf(relay, second), "healthy")
        yield* back
        yield* connects(environment)
        assert.strictEqual((yield* rowOf(relay, environment)).relayKeyId, before.relayKeyId)

        // A caller that goes on with it: the process that began has ended.
        yield* relay.run(Effect.gen(function*() {
          yield* Layer.build(RelayKeyRotation.layer({ interval: "20 millis" }))
          yield* Effect.repeat(Identity.ring(Identity.relayKeyName), {
            until: ({ next }) => Option.isNone(next),
            schedule: Schedule.spaced("20 millis")
          })
        })).pipe(Effect.scoped)
        assert.strictEqual((yield* rowOf(relay, environment)).relayKeyId, first.keyId)
        yield* connects(environment)

        yield* away({ relayKeyId: first.keyId })
        const dropped = yield* relay.run(RelayKeyRotation.rotate({ limit: 0 }))
        assert.isTrue(dropped.finished)
        assert.deepStrictEqual(dropped.unconfirmed.map(({ environmentId }) => environmentId), [environment.id])
        yield* back
        assert.strictEqual((yield* environment.connect("a")).status, 503)
        assert.strictEqual(yield* healthOf(relay, environment), "link_anew")
        assert.strictEqual(yield* healthOf(relay, second), "healthy")
        // It holds up no other rotation.
        const next = yield* relay.run(RelayKeyRotation.rotate())
        assert.deepStrictEqual([next.finished, next.unconfirmed.length], [true, 1])
        yield* environment.link
        yield* connects(environment)
      }).pipe(Effect.scoped))

    it.live("is the newest one to an environment that is linked while it is replaced", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        // The row is there, and the environment, which knows nothing yet, cannot be told.
        relay.meanwhile.afterLink = Effect.orDie(relay.run(RelayKeyRotation.rotate({ limit: 0 })))
        const second = yield* startEnvironment(store, relay)
        const { current } = yield* relay.run(Identity.ring(Identity.relayKeyName))
        assert.strictEqual((yield* rowOf(relay, second)).relayKeyId, current.publicKey.kid)
        assert.strictEqual(yield* healthOf(relay, second), "healthy")
        yield* connects(environment)
      }).pipe(Effect.scoped))

    it.live("once it was replaced, is believed for what was on its way, brings no other key, and then ends", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const secrets = yield* relay.run(SecretStore.SecretStore)
        yield* secrets.set("old", Option.getOrThrow(yield* secrets.get(Identity.relayKeyName)))
        const old = yield* relay.run(Identity.load("old"))
        const stolen = yield* relay.run(Identity.load("stolen"))
        const { environmentId, relayId } = yield* linkOf(environment)
        const ask = Effect.fnUntraced(function*(
          path: string,
          kind: string,
          by: Identity.Identity,
          claims: Readonly<Record<string, unknown>>
        ) {
          const once = () => crypto.randomUUID().replaceAll("-", "")
          const request = yield* by.sign(kind, {
            iss: relayId,
            aud: environmentId,
            jti: once(),
            nonce: once(),
            ...claims
          })
          return yield* post(`${environment.url}/api/connect/${path}`, { request })
        })
        const health = (by: Identity.Identity) => ask("health", typ.healthRequest, by, {})
        const introduce = (by: Identity.Identity) =>
          ask("relay-keys", typ.relayKeyRequest, by, { key: stolen.publicKey })
        assert.strictEqual(yield* health(old), 200)
        assert.strictEqual(yield* introduce(stolen), 401)
        const renamed = yield* relay.run(misnamed("stolen", "o".repeat(43)))
        assert.strictEqual(yield* ask("relay-keys", typ.relayKeyRequest, old, { key: renamed.publicKey }), 401)
        yield* relay.run(RelayKeyRotation.rotate())
        yield* connects(environment)
        assert.strictEqual(yield* health(old), 200)
        assert.strictEqual(yield* introduce(old), 401)
        assert.strictEqual(yield* health(stolen), 401)

        const link = yield* linkOf(environment)
        yield* environment.run(EnvironmentLink.set({
          ...link,
          relayKeys: link.relayKeys.map((key) => key.untilMillis === undefined ? key : { ...key, untilMillis: 1 })
        }))
        assert.strictEqual(yield* health(old), 401)
        yield* connects(environment)
      }).pipe(Effect.scoped))
  })

  describe(`both keys on ${store}`, () => {
    it.live("are replaced again and again while clients connect and wait, and each is answered", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const { answer } = yield* environment.connect("b")
        const wait = yield* Effect.forkChild(relay.call("/api/relay/await-decision", {
          key: "b",
          payload: { environmentId: environment.id, requestedAt: answer.requestedAt, waitSeconds: 30 }
        }))
        const connecting = yield* Effect.forkChild(
          Effect.forever(Effect.all([connects(environment), connects(environment)], { concurrency: 2 }))
        )
        const rotating = Effect.all(
          [
            Effect.repeat(environment.run(Linking.rotateKey), { times: 7 }),
            Effect.repeat(relay.run(RelayKeyRotation.rotate()), { times: 7 })
          ],
          { concurrency: 2 }
        )
        yield* Effect.raceFirst(rotating, Fiber.join(connecting))
        yield* Fiber.interrupt(connecting)
        yield* environment.decide("b", "approved")
        assert.deepStrictEqual(yield* Fiber.join(wait), { status: 200, body: { approvalStatus: "approved" } })
        const { keyId } = yield* environment.run(Linking.rotateKey)
        assert.strictEqual(yield* connects(environment), keyId)
      }).pipe(Effect.scoped))

    it.live("are replaced by several at once, who agree on what is next", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const five = Array.from({ length: 5 })
        yield* Effect.all(five.map(() => Effect.exit(environment.run(Linking.rotateKey))), { concurrency: "unbounded" })
        const { current } = yield* environment.run(Identity.ring(Identity.environmentKeyName))
        assert.strictEqual(yield* connects(environment), current.publicKey.kid)
        const progress = yield* Effect.all(
          five.map(() => relay.run(RelayKeyRotation.rotate())),
          { concurrency: "unbounded" }
        )
        assert.isTrue(progress.every(({ finished }) => finished))
        assert.strictEqual(yield* healthOf(relay, environment), "healthy")
        const { keyId } = yield* environment.run(Linking.rotateKey)
        assert.strictEqual(yield* connects(environment), keyId)
      }).pipe(Effect.scoped))
  })

  describe(`the end of a link on ${store}`, () => {
    it.live("is told to the relay by the environment itself, once, and by no other caller", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const { run } = environment
        const { relayId } = yield* linkOf(environment)
        const identity = yield* run(Identity.load(Identity.environmentKeyName))
        const stranger = yield* run(Identity.load("stranger"))
        const claims = { iss: environment.id, aud: relayId, jti: "j".repeat(32) }
        const leave = (proof: string) =>
          post(`${relay.url}/api/relay/environments/leave`, { environmentId: environment.id, proof })
        for (
          const forged of [
            stranger.sign(typ.unlink, claims),
            identity.sign(typ.link, claims),
            identity.sign(typ.unlink, { ...claims, aud: "another" }),
            identity.sign(typ.unlink, { iss: environment.id, aud: relayId })
          ]
        ) {
          assert.strictEqual(yield* leave(yield* forged), 401)
        }
        yield* connects(environment)

        const proof = yield* identity.sign(typ.unlink, claims)
        assert.strictEqual(yield* leave(proof), 204)
        assert.strictEqual((yield* environment.connect("a")).status, 404)
        yield* environment.link
        assert.strictEqual(yield* leave(proof), 401)
        yield* connects(environment)

        assert.isTrue(Option.isNone(yield* run(Linking.unlink)))
        assert.isTrue(Option.isNone(yield* run(EnvironmentLink.get)))
        assert.strictEqual((yield* environment.connect("a")).status, 404)
        assert.strictEqual((yield* Effect.flip(run(Linking.unlink)))._tag, "NotLinked")
        assert.strictEqual((yield* Effect.flip(run(Linking.rotateKey)))._tag, "NotLinked")
      }).pipe(Effect.scoped))

    it.live("comes also where the relay cannot be told, or does not know of it any more", () =>
      Effect.gen(function*() {
        const { environment, relay } = yield* start(store)
        const { run } = environment
        yield* run(EnvironmentLink.set({ ...(yield* linkOf(environment)), relayUrl: "http://127.0.0.1:1" }))
        const untold = yield* run(Linking.unlink)
        assert.strictEqual(Option.getOrThrow(untold)._tag, "LinkFailed")
        assert.isTrue(Option.isNone(yield* run(EnvironmentLink.get)))
        assert.strictEqual((yield* environment.connect("a")).status, 503)
        assert.strictEqual(yield* healthOf(relay, environment), "unreachable")

        yield* environment.link
        yield* connects(environment)
        const unlinked = yield* relay.call("/api/relay/environments/unlink", {
          payload: { environmentId: environment.id }
        })
        assert.strictEqual(unlinked.status, 204)
        assert.strictEqual((yield* environment.connect("a")).status, 404)
        assert.isTrue(Option.isNone(yield* run(Linking.unlink)))
      }).pipe(Effect.scoped))
  })
}

describe("the keys under a name", () => {
  it.effect("are one until the first rotation, and what cannot be read is an error and no new key", () =>
    Effect.gen(function*() {
      const secrets = yield* SecretStore.SecretStore
      const first = yield* Identity.load("key")
      const seed = Option.getOrThrow(yield* secrets.get("key"))
      assert.strictEqual(Redacted.value(seed).length, 32)
      const { current, next } = yield* Identity.begin("key")
      assert.strictEqual(current.publicKey.kid, first.publicKey.kid)
      assert.strictEqual((yield* Identity.begin("key")).next.publicKey.kid, next.publicKey.kid)
      yield* Identity.finish("key", "another")
      assert.strictEqual((yield* Identity.load("key")).publicKey.kid, first.publicKey.kid)
      yield* Identity.finish("key", next.publicKey.kid)
      yield* Identity.finish("key", next.publicKey.kid)
      const ring = yield* Identity.ring("key")
      assert.strictEqual(ring.current.publicKey.kid, next.publicKey.kid)
      assert.strictEqual(ring.id, first.publicKey.kid)
      assert.isTrue(Option.isNone(ring.next))
      for (const text of ["", "{}", "x".repeat(31), `{"id":"a","current":"AA","next":null}`]) {
        yield* secrets.set("broken", Redacted.make(new TextEncoder().encode(text)))
        const steps = [
          Effect.flip(Identity.ring("broken")),
          Effect.flip(Identity.begin("broken")),
          Effect.flip(Identity.finish("broken", "a"))
        ]
        for (const error of yield* Effect.all(steps)) {
          assert.strictEqual(error.reason._tag, "Corrupt", text)
        }
      }
    }).pipe(Effect.provide(Layer.provideMerge(SecretStore.layerMemory, NodeCrypto.layer))))
})
