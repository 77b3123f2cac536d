import * as NodeServices from "@effect/platform-node/NodeServices"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import type * as ServiceOptions from "@sallyport/core/ServiceOptions"
import * as Sweeper from "@sallyport/core/Sweeper"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as BootstrapOptions from "../src/access/internal/bootstrapOptions.ts"
import * as DpopOptions from "../src/access/internal/dpopOptions.ts"
import * as FeedOptions from "../src/access/internal/feedOptions.ts"
import * as SessionOptions from "../src/access/internal/sessionOptions.ts"
import * as ConnectOptions from "../src/connect/internal/connectOptions.ts"
import * as CredentialOptions from "../src/credentials/internal/credentialOptions.ts"
import * as RunOptions from "../src/runs/internal/runOptions.ts"
import * as EncryptionOptions from "../src/secrets/internal/encryptionOptions.ts"
import * as SecretOptions from "../src/secrets/internal/secretOptions.ts"

type Variables = Readonly<Record<string, string>>

const withVariables = (variables: Variables) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(variables))

/** Checks what a service makes of variables: of none, of all of them, and of a wrong one. */
const decodes = <S, E extends { readonly _tag: string; readonly message: string }>(
  title: string,
  service: Pick<ServiceOptions.ServiceOptions<never, S, E>, "defaults" | "fromConfig">,
  expected: {
    readonly defaults: S
    readonly variables: Variables
    readonly all: S
    readonly wrong: ReadonlyArray<readonly [variables: Variables, error: string, message: string]>
  }
) =>
  describe(`of ${title}`, () => {
    it.effect("has the documented defaults", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* service.defaults, expected.defaults)
        assert.deepStrictEqual(yield* withVariables({})(service.fromConfig), expected.defaults)
      }))

    it.effect("reads each variable, from the environment and from an object", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* withVariables(expected.variables)(service.fromConfig), expected.all)
        const provider = ConfigProvider.fromUnknown(expected.variables)
        assert.deepStrictEqual(
          yield* Effect.provideService(service.fromConfig, ConfigProvider.ConfigProvider, provider),
          expected.all
        )
      }))

    for (const [variables, tag, message] of expected.wrong) {
      it.effect(`OPS-06 refuses ${Object.entries(variables).map((entry) => entry.join("=")).join(" ")}`, () =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(withVariables(variables)(service.fromConfig))
          assert.strictEqual(error._tag, tag)
          assert.include(error.message, message)
        }))
    }
  })

describe("options in variables", () => {
  decodes("sessions", SessionOptions.settings, {
    defaults: {
      lifetimeMillis: 2_592_000_000,
      renewalMillis: 86_400_000,
      absoluteMillis: null,
      ticketMillis: 60_000,
      recheckMillis: 5_000,
      trustMillis: 2_000,
      cacheCapacity: 10_000,
      refreshing: { tokenMillis: 3_600_000, graceMillis: 30_000 },
      refreshesAll: false
    },
    variables: {
      SALLYPORT_SESSION_LIFETIME: "1 hour",
      SALLYPORT_SESSION_RENEWAL_INTERVAL: "1 minute",
      SALLYPORT_SESSION_ABSOLUTE_LIFETIME: "1 day",
      SALLYPORT_SESSION_REFRESH_TOKEN_LIFETIME: "10 minutes",
      SALLYPORT_SESSION_REFRESH_GRACE_WINDOW: "10 seconds",
      SALLYPORT_SESSION_TICKET_LIFETIME: "30 seconds",
      SALLYPORT_SESSION_RECHECK_INTERVAL: "1 second",
      SALLYPORT_SESSION_FEED_TRUST: "500 millis",
      SALLYPORT_SESSION_CACHE_CAPACITY: "7"
    },
    all: {
      lifetimeMillis: 3_600_000,
      renewalMillis: 60_000,
      absoluteMillis: 86_400_000,
      ticketMillis: 30_000,
      recheckMillis: 1_000,
      trustMillis: 500,
      cacheCapacity: 7,
      refreshing: { tokenMillis: 600_000, graceMillis: 10_000 },
      refreshesAll: true
    },
    wrong: [
      [
        { SALLYPORT_SESSION_LIFETIME: "30 dayz" },
        "InvalidSessionCredentialOptions",
        "SALLYPORT_SESSION_LIFETIME must be a duration of at least 1 millisecond, such as 30 days, not \"30 dayz\""
      ],
      [
        { SALLYPORT_SESSION_LIFETIME: "1 hour", SALLYPORT_SESSION_RENEWAL_INTERVAL: "2 hours" },
        "InvalidSessionCredentialOptions",
        "SALLYPORT_SESSION_RENEWAL_INTERVAL must be shorter than SALLYPORT_SESSION_LIFETIME"
      ],
      [
        { SALLYPORT_SESSION_REFRESH_GRACE_WINDOW: "1 second" },
        "InvalidSessionCredentialOptions",
        "SALLYPORT_SESSION_REFRESH_GRACE_WINDOW needs SALLYPORT_SESSION_REFRESH_TOKEN_LIFETIME; set both, or none"
      ],
      [
        { SALLYPORT_SESSION_CACHE_CAPACITY: "1.5" },
        "InvalidSessionCredentialOptions",
        "SALLYPORT_SESSION_CACHE_CAPACITY must be a whole number from 1, such as 10000, not \"1.5\""
      ]
    ]
  })

  decodes("pairing links", BootstrapOptions.settings, {
    defaults: {
      defaultMillis: 300_000,
      maximumMillis: 3_600_000,
      maxOpen: 32,
      maxLetIn: 1_000,
      unboundDelegation: false,
      perSource: { attempts: 10, windowMillis: 60_000 },
      total: { attempts: 1_000, windowMillis: 60_000 }
    },
    variables: {
      SALLYPORT_PAIRING_LIFETIME: "1 minute",
      SALLYPORT_PAIRING_MAXIMUM_LIFETIME: "2 minutes",
      SALLYPORT_PAIRING_MAX_OPEN_PER_SESSION: "3",
      SALLYPORT_PAIRING_MAX_LET_IN_PER_SESSION: "8",
      SALLYPORT_PAIRING_ATTEMPTS_PER_SOURCE_LIMIT: "4",
      SALLYPORT_PAIRING_ATTEMPTS_PER_SOURCE_WINDOW: "5 seconds",
      SALLYPORT_PAIRING_ATTEMPTS_TOTAL_LIMIT: "6",
      SALLYPORT_PAIRING_ATTEMPTS_TOTAL_WINDOW: "7 seconds"
    },
    all: {
      defaultMillis: 60_000,
      maximumMillis: 120_000,
      maxOpen: 3,
      maxLetIn: 8,
      unboundDelegation: false,
      perSource: { attempts: 4, windowMillis: 5_000 },
      total: { attempts: 6, windowMillis: 7_000 }
    },
    wrong: [
      [
        { SALLYPORT_PAIRING_MAXIMUM_LIFETIME: "1 minute" },
        "InvalidBootstrapCredentialOptions",
        "SALLYPORT_PAIRING_LIFETIME must not be longer than SALLYPORT_PAIRING_MAXIMUM_LIFETIME"
      ],
      [
        { SALLYPORT_PAIRING_ATTEMPTS_TOTAL_LIMIT: "0" },
        "InvalidBootstrapCredentialOptions",
        "SALLYPORT_PAIRING_ATTEMPTS_TOTAL_LIMIT must be a whole number from 1, such as 1000, not \"0\""
      ]
    ]
  })

  decodes("connecting clients", ConnectOptions.settings, {
    defaults: {
      pendingMillis: 86_400_000,
      maxPending: 20,
      maxObserved: 1_000,
      backOffMillis: 60_000,
      maxBackOffMillis: 86_400_000,
      maxWaiting: 1_000,
      deviceMillis: 600_000,
      intervalMillis: 5_000,
      recheckMillis: 5_000
    },
    variables: {
      SALLYPORT_CONNECT_PENDING_LIFETIME: "1 hour",
      SALLYPORT_CONNECT_MAX_PENDING_PER_ACCOUNT: "2",
      SALLYPORT_CONNECT_MAX_OBSERVED_PER_ACCOUNT: "3",
      SALLYPORT_CONNECT_BACK_OFF: "4 seconds",
      SALLYPORT_CONNECT_MAX_BACK_OFF: "5 seconds",
      SALLYPORT_CONNECT_MAX_WAITING: "6",
      SALLYPORT_CONNECT_DEVICE_LIFETIME: "8 seconds",
      SALLYPORT_CONNECT_DEVICE_INTERVAL: "9 seconds",
      SALLYPORT_CONNECT_RECHECK_INTERVAL: "7 seconds"
    },
    all: {
      pendingMillis: 3_600_000,
      maxPending: 2,
      maxObserved: 3,
      backOffMillis: 4_000,
      maxBackOffMillis: 5_000,
      maxWaiting: 6,
      deviceMillis: 8_000,
      intervalMillis: 9_000,
      recheckMillis: 7_000
    },
    wrong: [
      [
        { SALLYPORT_CONNECT_MAX_WAITING: "many" },
        "InvalidConnectClientStoreOptions",
        "SALLYPORT_CONNECT_MAX_WAITING must be a whole number from 1, such as 1000, not \"many\""
      ]
    ]
  })

  decodes("scoped credentials", CredentialOptions.settings, {
    defaults: {
      readOrder: ["user", "org", "workspace"],
      storeId: "credentials",
      maxValueBytes: 65_536,
      rejectedMillis: 900_000,
      testMillis: 10_000,
      cacheCapacity: 10_000,
      trustMillis: 5_000,
      auditMillis: 10_000
    },
    variables: {
      SALLYPORT_CREDENTIALS_READ_ORDER: "org, user",
      SALLYPORT_CREDENTIALS_STORE_ID: "acme",
      SALLYPORT_CREDENTIALS_MAX_VALUE_BYTES: "1",
      SALLYPORT_CREDENTIALS_REJECTED_FOR: "2 seconds",
      SALLYPORT_CREDENTIALS_TEST_TIMEOUT: "3 seconds",
      SALLYPORT_CREDENTIALS_CACHE_CAPACITY: "4",
      SALLYPORT_CREDENTIALS_TRUSTED_FOR: "5 millis",
      SALLYPORT_CREDENTIALS_AUDIT_INTERVAL: "6 seconds"
    },
    all: {
      readOrder: ["org", "user"],
      storeId: "acme",
      maxValueBytes: 1,
      rejectedMillis: 2_000,
      testMillis: 3_000,
      cacheCapacity: 4,
      trustMillis: 5,
      auditMillis: 6_000
    },
    wrong: [
      [
        { SALLYPORT_CREDENTIALS_READ_ORDER: "user,everyone" },
        "InvalidCredentialScopeResolverOptions",
        "SALLYPORT_CREDENTIALS_READ_ORDER must be some of user, org, workspace, each once, not \"user,everyone\""
      ],
      [
        { SALLYPORT_CREDENTIALS_READ_ORDER: "user,user" },
        "InvalidCredentialScopeResolverOptions",
        "each once"
      ],
      [
        { SALLYPORT_CREDENTIALS_STORE_ID: "x".repeat(256) },
        "InvalidCredentialScopeResolverOptions",
        "SALLYPORT_CREDENTIALS_STORE_ID must be a text of 1 to 255 characters"
      ]
    ]
  })

  decodes("DPoP proofs", DpopOptions.settings, {
    defaults: { maxAgeMillis: 60_000, skewMillis: 10_000, nonceMillis: undefined, keyCacheCapacity: 10_000 },
    variables: {
      SALLYPORT_DPOP_MAX_AGE: "1 second",
      SALLYPORT_DPOP_CLOCK_SKEW: "0 millis",
      SALLYPORT_DPOP_NONCE_LIFETIME: "3 seconds",
      SALLYPORT_DPOP_KEY_CACHE_CAPACITY: "4"
    },
    all: { maxAgeMillis: 1_000, skewMillis: 0, nonceMillis: 3_000, keyCacheCapacity: 4 },
    wrong: [
      [
        { SALLYPORT_DPOP_MAX_AGE: "Infinity" },
        "InvalidDpopProofOptions",
        "SALLYPORT_DPOP_MAX_AGE must be a duration of at least 1 millisecond, such as 60 seconds, not \"Infinity\""
      ],
      [
        { SALLYPORT_DPOP_CLOCK_SKEW: "-1 seconds" },
        "InvalidDpopProofOptions",
        "SALLYPORT_DPOP_CLOCK_SKEW must be a duration of at least 0 milliseconds"
      ]
    ]
  })

  decodes("the access feed", FeedOptions.settings, {
    defaults: { pageSize: 256, maxReplay: 10_000, pollMillis: 5_000, retryMillis: 250 },
    variables: {
      SALLYPORT_FEED_PAGE_SIZE: "1",
      SALLYPORT_FEED_MAX_REPLAY: "0",
      SALLYPORT_FEED_POLL_INTERVAL: "3 seconds",
      SALLYPORT_FEED_RETRY_DELAY: "4 millis"
    },
    all: { pageSize: 1, maxReplay: 0, pollMillis: 3_000, retryMillis: 4 },
    wrong: [
      [
        { SALLYPORT_FEED_PAGE_SIZE: "" + -1 },
        "InvalidAccessFeedOptions",
        "SALLYPORT_FEED_PAGE_SIZE must be a whole number"
      ]
    ]
  })

  decodes("runs", RunOptions.settings, {
    defaults: {
      heartbeatInterval: 10_000,
      lease: 30_000,
      reconnectWindow: 600_000,
      retention: 86_400_000,
      tombstoneRetention: 604_800_000,
      pollInterval: 5_000,
      pageSize: 256,
      maxTailBytes: 33_554_432,
      maxTakeOvers: 10,
      takeOverWindow: 600_000,
      maxQueued: 16,
      maxBatchEvents: 50,
      maxEventBytes: 1_048_576,
      maxEvents: 1_000_000,
      maxRunBytes: 1_073_741_824,
      maxRunning: 1_000,
      maxAborts: 1_000
    },
    variables: {
      SALLYPORT_RUNS_HEARTBEAT_INTERVAL: "1 second",
      SALLYPORT_RUNS_LEASE: "2 seconds",
      SALLYPORT_RUNS_RECONNECT_WINDOW: "3 seconds",
      SALLYPORT_RUNS_RETENTION: "4 seconds",
      SALLYPORT_RUNS_TOMBSTONE_RETENTION: "5 seconds",
      SALLYPORT_RUNS_POLL_INTERVAL: "6 seconds",
      SALLYPORT_RUNS_PAGE_SIZE: "7",
      SALLYPORT_RUNS_MAX_TAIL_BYTES: "8",
      SALLYPORT_RUNS_MAX_TAKE_OVERS: "14",
      SALLYPORT_RUNS_TAKE_OVER_WINDOW: "15 seconds",
      SALLYPORT_RUNS_MAX_QUEUED: "13",
      SALLYPORT_RUNS_MAX_BATCH_EVENTS: "9",
      SALLYPORT_RUNS_MAX_EVENT_BYTES: "10",
      SALLYPORT_RUNS_MAX_EVENTS: "11",
      SALLYPORT_RUNS_MAX_RUN_BYTES: "12",
      SALLYPORT_RUNS_MAX_RUNNING: "13",
      SALLYPORT_RUNS_MAX_ABORTS: "15"
    },
    all: {
      heartbeatInterval: 1_000,
      lease: 2_000,
      reconnectWindow: 3_000,
      retention: 4_000,
      tombstoneRetention: 5_000,
      pollInterval: 6_000,
      pageSize: 7,
      maxTailBytes: 8,
      maxTakeOvers: 14,
      takeOverWindow: 15_000,
      maxQueued: 13,
      maxBatchEvents: 9,
      maxEventBytes: 10,
      maxEvents: 11,
      maxRunBytes: 12,
      maxRunning: 13,
      maxAborts: 15
    },
    wrong: [
      [
        { SALLYPORT_RUNS_LEASE: "1 second" },
        "InvalidRunEventLogOptions",
        "SALLYPORT_RUNS_HEARTBEAT_INTERVAL must be shorter than SALLYPORT_RUNS_LEASE"
      ]
    ]
  })

  decodes("the secret store", SecretOptions.settings, {
    defaults: 2,
    variables: { SALLYPORT_SECRETS_KEEP_VERSIONS: "5" },
    all: 5,
    wrong: [
      [
        { SALLYPORT_SECRETS_KEEP_VERSIONS: "0" },
        "InvalidSecretStoreOptions",
        "SALLYPORT_SECRETS_KEEP_VERSIONS must be a whole number from 1, such as 2, not \"0\""
      ]
    ]
  })

  it.effect("OPS-06 the encrypted store needs an id", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(withVariables({})(EncryptionOptions.settings.fromConfig))
      assert.strictEqual(
        error.message,
        "The options of the encrypted secret store cannot work: SALLYPORT_SECRETS_STORE_ID is not set; set it to a text " +
          "of 1 to 255 characters"
      )
      const found = yield* withVariables({
        SALLYPORT_SECRETS_STORE_ID: "acme",
        SALLYPORT_SECRETS_ALGORITHM: "xchacha20Poly1305"
      })(EncryptionOptions.settings.fromConfig)
      assert.deepStrictEqual([found.storeId, found.algorithm.name], ["acme", "xchacha20Poly1305"])
      const wrong = yield* Effect.flip(
        withVariables({ SALLYPORT_SECRETS_STORE_ID: "acme", SALLYPORT_SECRETS_ALGORITHM: "rot13" })(
          EncryptionOptions.settings.fromConfig
        )
      )
      assert.include(
        wrong.message,
        "SALLYPORT_SECRETS_ALGORITHM must be one of aes256Gcm, xchacha20Poly1305, not \"rot13\""
      )
    }))
})

describe("options in code", () => {
  /** What a host without a compiler gives. */
  const untyped = (options: unknown): never => options as never

  for (
    const [title, service, options, problem] of [
      ["pairing", BootstrapOptions, { lifetme: "1 minute" }, "lifetme is not an option; did you mean lifetime?"],
      ["pairing", BootstrapOptions, { MaxOpenPersession: 1 }, "did you mean maxOpenPerSession?"],
      [
        "pairing",
        BootstrapOptions,
        { attempts: { perSorce: {} } },
        "attempts.perSorce is not an option; did you mean perSource?"
      ],
      [
        "pairing",
        BootstrapOptions,
        { attempts: { total: { limt: 1 } } },
        "attempts.total.limt is not an option; did you mean limit?"
      ],
      ["pairing", BootstrapOptions, { attempts: 3 }, "attempts must be an object with perSource, total"],
      ["pairing", BootstrapOptions, { attempts: null }, "attempts must be an object with perSource, total"],
      ["sessions", SessionOptions, { refresh: true }, "refresh must be an object with tokenLifetime, graceWindow"],
      ["sessions", SessionOptions, { absolutLifetime: "1 day" }, "did you mean absoluteLifetime?"],
      ["DPoP", DpopOptions, { nonceLifetme: "1 second" }, "did you mean nonceLifetime?"],
      [
        "the feed",
        FeedOptions,
        { size: 3 },
        "size is not an option; these are: pageSize, maxReplay, pollInterval, retryDelay"
      ],
      [
        "the feed",
        FeedOptions,
        "256",
        "the options must be an object with pageSize, maxReplay, pollInterval, retryDelay"
      ],
      ["connecting clients", ConnectOptions, { backoff: "1 day" }, "backoff is not an option; did you mean backOff?"],
      ["credentials", CredentialOptions, { storeID: "acme" }, "did you mean storeId?"],
      ["runs", RunOptions, { retenion: "1 day" }, "did you mean retention?"],
      ["the secret store", SecretOptions, { keepVersion: 3 }, "did you mean keepVersions?"],
      ["the secret store", SecretOptions, { prefix: "acme_" }, "prefix is not an option; these are: keepVersions"],
      ["the encrypted store", EncryptionOptions, { storeid: "acme" }, "is missing; is storeid meant for it?"],
      ["the encrypted store", EncryptionOptions, {}, "storeId must be a text of 1 to 255 characters, and is missing"],
      ["the encrypted store", EncryptionOptions, { storeId: "acme", algoritm: "x" }, "did you mean algorithm?"]
    ] as const
  ) {
    it.effect(`OPS-06 of ${title} refuse ${JSON.stringify(options)}: ${problem}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip<unknown, { readonly message: string }, never>(
          service.settings.fromObject(untyped(options))
        )
        assert.include(error.message, problem)
      }))
  }

  it.effect("of a store in tables are those of its tables, too, and those of a sweeper what it sweeps", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* SecretOptions.tableSettings(untyped({ prefix: "acme_", keepVersions: 3 })), 3)
      const misspelt = yield* Effect.flip(SecretOptions.tableSettings(untyped({ prefx: "acme_" })))
      assert.include(misspelt.message, "prefx is not an option; did you mean prefix?")
      const swept = { interval: "1 minute", batchSize: 10 } as const
      const settings = (options: object, others?: ReadonlyArray<string>) =>
        Sweeper.settings("rows", untyped(options), swept, others)
      assert.include((yield* Effect.flip(settings({ retention: "1 day" }))).message, "retention is not an option")
      assert.strictEqual((yield* settings({ batchSize: 3, prefix: "acme_" }, ["prefix"])).batchSize, 3)
    }))

  it.effect("may be absent, undefined, or left out altogether", () =>
    Effect.gen(function*() {
      const defaults = yield* BootstrapOptions.settings.defaults
      for (const options of [undefined, {}, { lifetime: undefined, lifetme: undefined, attempts: undefined }]) {
        assert.deepStrictEqual(yield* BootstrapOptions.settings.fromObject(untyped(options)), defaults)
      }
    }))
})

describe("layerConfig", () => {
  const services = Layer.mergeAll(
    Repositories.layerMemory,
    Layer.provideMerge(SecretStore.layerMemory, NodeCrypto.layer),
    CredentialRequirements.layer([]),
    OrgMembership.layerNone
  )
  const keys = SecretKeys.layerKeys({ active: Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => index)) })

  it.effect("builds every service, whose variables all have defaults", () =>
    Layer.build(
      Layer.mergeAll(
        AccessFeed.layerConfig,
        AuthPolicy.layerConfig,
        BootstrapCredentialService.layerConfig,
        ConnectClientStore.layerConfig,
        CredentialScopeResolver.layerConfig,
        DpopProof.layerConfig,
        RunEventLog.layerConfig,
        SessionCredentialService.layerConfig
      ).pipe(Layer.provide([Layer.provide(keys, NodeCrypto.layer), services]))
    ).pipe(withVariables({})))

  it.effect("gives a session and a pairing link the lifetimes of the variables", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(
        Layer.merge(SessionCredentialService.layerConfig, BootstrapCredentialService.layerConfig).pipe(
          Layer.provide(services)
        )
      )
      const { session } = yield* Context.get(context, SessionCredentialService.SessionCredentialService).issue({
        subject: "ada",
        scopes: [],
        method: "bearer-access-token"
      })
      assert.strictEqual(DateTime.toEpochMillis(session.expiresAt), 3_600_000)
      const { link } = yield* Context.get(context, BootstrapCredentialService.BootstrapCredentialService).issue({
        issuedBy: "operator",
        scopes: []
      })
      assert.strictEqual(DateTime.toEpochMillis(link.expiresAt), 60_000)
    }).pipe(withVariables({ SALLYPORT_SESSION_LIFETIME: "1 hour", SALLYPORT_PAIRING_LIFETIME: "1 minute" })))

  const policyOf = (variables: Variables) =>
    Layer.build(AuthPolicy.layerConfig).pipe(
      Effect.map(Context.get(AuthPolicy.AuthPolicy)),
      withVariables(variables)
    )

  it.effect("AUTH-01: chooses the policy of the variables", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* policyOf({})).kind, "loopback-browser")
      assert.strictEqual((yield* policyOf({ SALLYPORT_POLICY: "desktop-managed-local" })).kind, "desktop-managed-local")
      const remote = yield* policyOf({
        SALLYPORT_HOST: "0.0.0.0",
        SALLYPORT_PUBLIC_URL: "https://example.com",
        SALLYPORT_POLICY: "remote-reachable"
      })
      assert.deepStrictEqual([remote.kind, remote.publicUrl?.href], ["remote-reachable", "https://example.com/"])
    }))

  it.effect("AUTH-01 OPS-06: refuses a policy that is none, or does not fit the address", () =>
    Effect.gen(function*() {
      const unknown = yield* Effect.flip(policyOf({ SALLYPORT_POLICY: "open" }))
      assert.strictEqual(unknown._tag, "InvalidAuthPolicyOptions")
      assert.include(unknown.message, "SALLYPORT_POLICY must be one of desktop-managed-local, loopback-browser")
      const url = yield* Effect.flip(policyOf({ SALLYPORT_PUBLIC_URL: "example.com" }))
      assert.include(url.message, "SALLYPORT_PUBLIC_URL must be an address, such as https://example.com")
      const refused = yield* Effect.flip(policyOf({ SALLYPORT_HOST: "0.0.0.0", SALLYPORT_POLICY: "unsafe-no-auth" }))
      assert.strictEqual(refused._tag, "PolicyRefused")
    }))

  it.effect("keeps secrets in the directory of the variables, encrypted under the id of the variables", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = `${yield* fs.makeTempDirectoryScoped()}/secrets`
      const store = Layer.provide(SecretStore.layerConfig, [NodeServices.layer, NodeCrypto.layer])
      const encrypted = EncryptedSecretStore.layerConfig.pipe(
        Layer.provide([Layer.provide(keys, NodeCrypto.layer), store]),
        Layer.provide(NodeCrypto.layer)
      )
      const use = (id: string) =>
        Effect.map(Layer.build(Layer.fresh(encrypted)), Context.get(SecretStore.SecretStore)).pipe(
          withVariables({ SALLYPORT_SECRETS_DIRECTORY: directory, SALLYPORT_SECRETS_STORE_ID: id })
        )
      yield* (yield* use("acme")).set("token", Redacted.make(new Uint8Array([1])))
      assert.isTrue(yield* fs.exists(directory))
      assert.deepStrictEqual(
        Option.map(yield* (yield* use("acme")).get("token"), Redacted.value),
        Option.some(new Uint8Array([1]))
      )
      assert.strictEqual((yield* Effect.flip((yield* use("other")).get("token"))).reason._tag, "Undecryptable")
      const missing = yield* Effect.flip(Layer.build(Layer.fresh(store)).pipe(withVariables({})))
      assert.include(
        missing.message,
        "SALLYPORT_SECRETS_DIRECTORY is not set; set it to a text of 1 to 255 characters"
      )
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("a host's provider may put the variables below a name of its own", () =>
    Effect.gen(function*() {
      const provider = ConfigProvider.nested(
        ConfigProvider.fromEnvRecord({ ACME_SALLYPORT_RUNS_PAGE_SIZE: "3" }),
        "ACME"
      )
      const found = yield* Effect.provideService(
        RunOptions.settings.fromConfig,
        ConfigProvider.ConfigProvider,
        provider
      )
      assert.strictEqual(found.pageSize, 3)
    }))
})

describe("Sweeper", () => {
  it.effect("OPS-06 refuses options with which it would spin or never rest", () =>
    Effect.gen(function*() {
      const build = (options: Sweeper.RetentionOptions) =>
        Effect.flip(Layer.build(Sweeper.layer({
          name: "ended sessions",
          options,
          defaults: { interval: "1 minute", batchSize: 10, retention: "1 hour" },
          sweep: Effect.succeed(() => Effect.succeed(0))
        })))
      for (
        const [options, problem] of [
          [{ batchSize: 0 }, "batchSize must be a whole number from 1"],
          [{ interval: 0 }, "interval must be a duration of at least 1 millisecond"],
          [{ retention: "-1 seconds" }, "retention must be a duration of at least 0 milliseconds"]
        ] as const
      ) {
        const error = yield* build(options)
        assert.strictEqual(error._tag, "InvalidSweeperOptions")
        assert.include(error.message, `The options of the sweeper of ended sessions cannot work: ${problem}`)
      }
    }))
})
