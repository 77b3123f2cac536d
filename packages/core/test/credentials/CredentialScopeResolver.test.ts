import { AccessRepository, layerMemory } from "@sallyport/core/access/AccessRepository"
import * as Access from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as ConfigProvider from "effect/ConfigProvider"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"

const { CredentialScopeResolver: Resolver } = CredentialScopeResolver

const ada = { subject: "ada" }
const single = (text: string) => new Map([["value", Redacted.make(text)]])
const keys = SecretKeys.layerKeys({ active: Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => index)) })

/** What a test counts, fails and lets a provider answer. */
const makeProbe = () => ({
  finds: 0,
  failing: new Set<string>(),
  verdict: Effect.succeed<CredentialRequirements.Verdict>({ _tag: "Valid", account: "ada" })
})

const failure = (operation: string) =>
  new RepositoryError({ operation, reason: "Failed", outcome: "unchanged", cause: new Error("the disk is on fire") })

const layerOf = (
  probe: ReturnType<typeof makeProbe>,
  requirement: Partial<CredentialRequirements.Requirement> = {},
  options: CredentialScopeResolver.Options = {}
) => {
  const Repository = Layer.effect(
    AccessRepository,
    AccessRepository.useSync((store) =>
      AccessRepository.of({
        ...store,
        credentials: {
          ...store.credentials,
          find: (asked) =>
            Effect.suspend(() => {
              probe.finds++
              return probe.failing.has("find") ? Effect.fail(failure("find")) : store.credentials.find(asked)
            }),
          recordRead: (read, change) =>
            Effect.suspend(() =>
              probe.failing.has("recordRead")
                ? Effect.fail(failure("recordRead"))
                : store.credentials.recordRead(read, change)
            )
        },
        feed: {
          ...store.feed,
          latestRevision: Effect.suspend(() =>
            probe.failing.has("feed") ? Effect.fail(failure("latestRevision")) : store.feed.latestRevision
          ),
          read: (asked) =>
            Effect.suspend(() => probe.failing.has("feed") ? Effect.fail(failure("read")) : store.feed.read(asked))
        }
      })
    )
  ).pipe(Layer.provide(layerMemory))
  return CredentialScopeResolver.layerWith(options).pipe(
    Layer.provide([
      OrgMembership.layerStatic(
        new Map([
          ["ada", { org: { id: "acme", role: "owner" } }],
          ["bob", { org: { id: "acme", role: "member" } }]
        ])
      ),
      CredentialRequirements.layer([
        { key: "token", label: "Token", validator: () => Effect.suspend(() => probe.verdict), ...requirement }
      ]),
      keys
    ]),
    Layer.provideMerge(Layer.mergeAll(Repository)),
    Layer.provide(NodeCrypto.layer)
  )
}

const test = (
  title: string,
  program: (
    probe: ReturnType<typeof makeProbe>
  ) => Effect.Effect<
    void,
    CredentialScopeResolver.CredentialError | RepositoryError,
    CredentialScopeResolver.CredentialScopeResolver | AccessRepository
  >,
  requirement?: Partial<CredentialRequirements.Requirement>
) =>
  it.effect(title, () => {
    const probe = makeProbe()
    return program(probe).pipe(Effect.provide(layerOf(probe, requirement), { local: true }), Effect.orDie)
  })

const reasonOf = <A>(self: Effect.Effect<A, CredentialScopeResolver.CredentialError>) =>
  Effect.match(self, { onFailure: (error): string => error.reason._tag, onSuccess: () => "succeeded" })

describe("removals", () => {
  test(
    "SCOPE-03: take the one that is used, and one of a scope that is not declared any more only if it is named",
    Effect.fnUntraced(function*() {
      const credentials = yield* Resolver
      const { credentials: rows } = yield* AccessRepository
      // What is left of an earlier declaration, which comes first in the order of reading.
      yield* rows.put(
        {
          scope: "user",
          owner: "ada",
          key: "token",
          revision: "1",
          sealed: "sealed",
          updatedAtMillis: 0,
          updatedBy: "ada"
        },
        undefined,
        { actor: "ada", nowMillis: 0 }
      )
      assert.strictEqual(yield* reasonOf(credentials.remove(ada, { key: "token" })), "NotSet")
      yield* credentials.write(ada, { key: "token", values: single("of-acme") })
      assert.strictEqual((yield* credentials.remove(ada, { key: "token" })).scope, "org")
      assert.strictEqual((yield* credentials.remove(ada, { key: "token", scope: "user" })).scope, "user")
    }),
    { scopes: ["org"] }
  )
})

describe("the environment", () => {
  it.effect("SCOPE-10: a variable that cannot be read is an error to branch on", () =>
    Effect.gen(function*() {
      const credentials = yield* Resolver
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "CredentialStoreUnavailable")
      assert.strictEqual(yield* reasonOf(credentials.status(ada)), "CredentialStoreUnavailable")
    }).pipe(
      Effect.provide(layerOf(makeProbe(), { environment: { value: "TOKEN" } }), { local: true }),
      Effect.provide(ConfigProvider.layer(
        ConfigProvider.make(() => Effect.fail(new ConfigProvider.SourceError({ message: "the directory is gone" })))
      ))
    ))
})

describe("rejections", () => {
  test(
    "SCOPE-11: a rejected credential is invalid for a limited time, for the whole organisation, and a new value ends it",
    Effect.fnUntraced(function*(probe) {
      const credentials = yield* Resolver
      const state = Effect.map(credentials.status({ subject: "bob" }), ([status]) => status?.state)
      yield* credentials.write(ada, { key: "token", values: single("bad") })
      yield* credentials.resolve(ada, "token")
      probe.verdict = Effect.succeed({ _tag: "Rejected", detail: "revoked" })
      assert.strictEqual((yield* credentials.test(ada, "token"))._tag, "Rejected")
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "CredentialRejected")
      assert.strictEqual(yield* state, "invalid")
      yield* TestClock.adjust("14 minutes")
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "CredentialRejected")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "succeeded")
      assert.strictEqual(yield* state, "set")

      yield* credentials.test(ada, "token")
      assert.strictEqual(yield* state, "invalid")
      yield* credentials.write(ada, { key: "token", values: single("good") })
      assert.strictEqual(yield* state, "set")
      yield* credentials.test(ada, "token")
      probe.verdict = Effect.succeed({ _tag: "Valid", account: "ada" })
      yield* credentials.test(ada, "token")
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "succeeded")
    })
  )

  test(
    "SCOPE-11 L-57: an outage, a rate limit, a wrong address and a provider that does not answer leave a credential as it was",
    Effect.fnUntraced(function*(probe) {
      const credentials = yield* Resolver
      const feed = (yield* AccessRepository).feed
      yield* credentials.write(ada, { key: "token", values: single("good") })
      yield* credentials.resolve(ada, "token")
      const before = yield* feed.latestRevision
      for (
        const verdict of [
          { _tag: "ProviderDown", detail: "502" },
          { _tag: "RateLimited", until: DateTime.makeUnsafe(60_000) },
          { _tag: "RateLimited", until: null },
          { _tag: "WrongAddress", detail: "no such repository" },
          { _tag: "NeedsToken" }
        ] as const
      ) {
        probe.verdict = Effect.succeed(verdict)
        assert.deepStrictEqual(yield* credentials.test(ada, "token"), verdict)
      }
      probe.verdict = Effect.never
      const waiting = yield* Effect.forkChild(credentials.test(ada, "token"))
      yield* TestClock.adjust("9 seconds")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("1 second")
      const exit = waiting.pollUnsafe()
      assert.strictEqual(exit?._tag === "Success" ? exit.value._tag : exit?._tag, "ProviderDown")
      assert.strictEqual((yield* credentials.status(ada))[0]?.state, "set")
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "succeeded")
      const changes = yield* feed.read({ after: before, limit: 100 })
      assert.deepStrictEqual(new Set(changes.map(({ change }) => change._tag)), new Set(["credentialRead"]))
    })
  )

  test(
    "SCOPE-09: a check without a credential, or without a validator, says so",
    Effect.fnUntraced(function*() {
      const credentials = yield* Resolver
      assert.deepStrictEqual(yield* credentials.test(ada, "token"), { _tag: "NeedsToken" })
      yield* credentials.write(ada, { key: "token", values: single("any") })
      assert.deepStrictEqual(yield* credentials.test(ada, "token"), { _tag: "Unchecked" })
    }),
    { validator: undefined }
  )
})

describe("the environment", () => {
  const withEnvironment = (environment: Record<string, string>) =>
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(environment))

  test(
    "SCOPE-10 L-58: is not looked at for a key whose declaration does not ask for it",
    Effect.fnUntraced(function*() {
      const credentials = yield* Resolver
      const environment = withEnvironment({ token: "t", TOKEN: "t", value: "t", VALUE: "t" })
      assert.isTrue(Option.isNone(yield* environment(credentials.resolve(ada, "token"))))
      assert.deepInclude((yield* environment(credentials.status(ada)))[0], { state: "unset", source: null })
    })
  )

  test(
    "SCOPE-10 SCOPE-12: stands in, last of all and under its own name, where the declaration asks for it",
    Effect.fnUntraced(function*() {
      const credentials = yield* Resolver
      const environment = withEnvironment({ PROVIDER_TOKEN: "the operator's" })
      const found = Option.getOrThrow(yield* environment(credentials.resolve(ada, "token")))
      assert.deepStrictEqual([found.source, Redacted.value(found.value)], ["environment", "the operator's"])
      assert.deepInclude((yield* environment(credentials.status(ada)))[0], { state: "set", source: "environment" })
      assert.isTrue(Option.isNone(yield* withEnvironment({ PROVIDER_TOKEN: "" })(credentials.resolve(ada, "token"))))
      const feed = (yield* AccessRepository).feed
      assert.deepInclude((yield* feed.read({ after: 0, limit: 9 }))[0]?.change, {
        _tag: "credentialRead",
        source: "environment"
      })
      yield* credentials.write(ada, { key: "token", values: single("Ada's"), scope: "user" })
      assert.strictEqual((yield* environment(credentials.require(ada, "token"))).source, "user")
    }),
    { environment: { value: "PROVIDER_TOKEN" } }
  )
})

describe("declarations", () => {
  const declare = (...requirements: ReadonlyArray<CredentialRequirements.Requirement>) =>
    Effect.match(
      Effect.provide(CredentialRequirements.CredentialRequirements, CredentialRequirements.layer(requirements)),
      {
        onFailure: (error) => error.message,
        onSuccess: ({ all }) => all.map(({ key }) => key).join()
      }
    )

  it.effect("SCOPE-09: two declarations of one key, and malformed ones, stop the start with the key's name", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* declare({ key: "b", label: "B" }, { key: "a", label: "A" }), "a,b")
      const twice = yield* declare({ key: "a", label: "A" }, { key: "a", label: "Another" })
      assert.match(twice, /"a".*twice.*"A" and "Another"/)
      for (
        const bad of [
          { key: "A", label: "A" },
          { key: "", label: "A" },
          { key: "a/b", label: "A" },
          { key: "a", label: " " },
          { key: "a", label: "A", scopes: [] },
          { key: "a", label: "A", parts: [] },
          { key: "a", label: "A", parts: ["x", "x"] },
          { key: "a", label: "A", parts: ["__proto__"] },
          { key: "a", label: "A", environment: {} },
          { key: "a", label: "A", parts: ["x", "y"], environment: { x: "X" } }
        ]
      ) assert.match(yield* declare(bad), /cannot be declared/, JSON.stringify(bad))
    }))

  test(
    "SCOPE-09: what is required and not set is asked for by its label and help",
    Effect.fnUntraced(function*() {
      const credentials = yield* Resolver
      const reason = yield* credentials.require(ada, "token").pipe(
        Effect.match({ onFailure: (error) => error.reason, onSuccess: () => undefined })
      )
      assert.deepInclude(reason, { _tag: "NotSet", label: "Token", helpUrl: "https://provider.test/keys" })
    }),
    { helpUrl: "https://provider.test/keys" }
  )
})

describe("the cache", () => {
  test(
    "resolves what was resolved before without the store, and trusts it no longer than the feed can be read",
    Effect.fnUntraced(function*(probe) {
      const credentials = yield* Resolver
      yield* credentials.write(ada, { key: "token", values: single("good") })
      yield* credentials.resolve(ada, "token")
      const finds = probe.finds
      for (let index = 0; index < 100; index++) yield* credentials.resolve(ada, "token")
      assert.strictEqual(probe.finds, finds)
      probe.failing.add("feed")
      yield* TestClock.adjust("1 minute")
      yield* credentials.resolve(ada, "token")
      assert.strictEqual(probe.finds, finds + 1)
      probe.failing.add("find")
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "CredentialStoreUnavailable")
      probe.failing.clear()
      yield* TestClock.adjust("1 minute")
      yield* credentials.resolve(ada, "token")
      yield* credentials.resolve(ada, "token")
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "succeeded")
    })
  )

  test(
    "SCOPE-12: a value whose read cannot be recorded is not given out",
    Effect.fnUntraced(function*(probe) {
      const credentials = yield* Resolver
      yield* credentials.write(ada, { key: "token", values: single("good") })
      probe.failing.add("recordRead")
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "CredentialStoreUnavailable")
      probe.failing.clear()
      assert.strictEqual(yield* reasonOf(credentials.resolve(ada, "token")), "succeeded")
    })
  )

  test(
    "SCOPE-12: repeated reads are counted into the feed after some seconds",
    Effect.fnUntraced(function*(probe) {
      const credentials = yield* Resolver
      const feed = (yield* AccessRepository).feed
      yield* credentials.write(ada, { key: "token", values: single("good") })
      for (let index = 0; index < 7; index++) yield* credentials.resolve(ada, "token")
      probe.failing.add("recordRead")
      yield* TestClock.adjust("10 seconds")
      probe.failing.clear()
      yield* TestClock.adjust("10 seconds")
      const counts = (yield* feed.read({ after: 1, limit: 9 })).map(({ change }) =>
        change._tag === "credentialRead" ? change.count : change._tag
      )
      assert.deepStrictEqual(counts, [1, 6])
    })
  )
})

describe("keys of a secret store", () => {
  it.effect("SCOPE-07 SEC-07: a new version of the secret encrypts, the one before decrypts, and after a rotation it is not needed", () =>
    Effect.gen(function*() {
      const store = yield* SecretStore.SecretStore
      const load = Effect.provide(SecretKeys.SecretKeys, SecretKeys.layerSecretStore("credentials.key"), {
        local: true
      })
      const [first, again] = yield* Effect.all([load, load], { concurrency: "unbounded" })
      assert.strictEqual(first.active.id, again.active.id)

      const resolver = (using: SecretKeys.SecretKeys["Service"]) =>
        Layer.fresh(CredentialScopeResolver.layer).pipe(
          Layer.provide([
            OrgMembership.layerNone,
            CredentialRequirements.layer([{ key: "token", label: "Token" }]),
            Layer.succeed(SecretKeys.SecretKeys, using)
          ])
        )
      const resolve = Effect.map(
        Effect.flatMap(Resolver, (credentials) => credentials.require(ada, "token")),
        ({ value }) => Redacted.value(value)
      )
      yield* Resolver.pipe(
        Effect.flatMap((credentials) => credentials.write(ada, { key: "token", values: single("kept") })),
        Effect.provide(resolver(first))
      )
      yield* store.set("credentials.key", Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => index + 1)))
      const second = yield* load
      assert.notStrictEqual(second.active.id, first.active.id)
      assert.sameMembers(Array.from(second.keys.keys()), [first.active.id, second.active.id])
      assert.strictEqual(yield* Effect.provide(resolve, resolver(second)), "kept")
      const rotate = CredentialScopeResolver.rotate().pipe(Effect.provideService(SecretKeys.SecretKeys, second))
      assert.deepStrictEqual(yield* rotate, { rewritten: 1, unchanged: 0, undecryptable: [] })
      const alone = SecretKeys.fromKeys(second.active, [])
      assert.strictEqual(yield* Effect.provide(resolve, resolver(alone)), "kept")
      assert.strictEqual(
        yield* resolve.pipe(
          Effect.catchReason("CredentialError", "Undecryptable", () => Effect.succeed("undecryptable")),
          Effect.provide(resolver(first))
        ),
        "undecryptable"
      )
    }).pipe(
      Effect.provide(Layer.mergeAll(
        SecretStore.layerMemory,
        Access.layerMemory
      )),
      Effect.provide(NodeCrypto.layer)
    ))
})
