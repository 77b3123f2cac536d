/**
 * What a host, or a client through it, gives to a service and no service takes: the same typed error on every store.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { SessionId } from "@sallyport/core/access/Session"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { databases } from "../../../test-support/databases.ts"

const stores = [
  { name: "memory", layer: Layer.fresh(Repositories.layerMemory) },
  ...databases.map(({ layer, name }) => ({ name, layer: Layer.provide(SqlRepositories.layer, layer) }))
]

/** No key, in PostgreSQL no text at all, or too long. */
const noKeys = ["", "a\u0000b", "a\nb", "\ud800", "x".repeat(2_000)]
/** No line either. */
const noLines = [...noKeys, " ", "a\u202eb", "a\u200bb"]
const noSubjects = [...noLines, "😀".repeat(400), "operator", "system", "connect"]
const noCounts = [NaN, -1, 0, 1.5, Infinity, 1e300, Number.MAX_SAFE_INTEGER + 1]
const noLifetimes = [NaN, -1, 0, Infinity, 1e300]
/** What only a host without types gives. */
const untyped = (json: string) => JSON.parse(json)
const noNames = [`""`, `"A\\u0000:b"`, `"operator"`, "1", "null", "{}"].map(untyped)

const thumbprint = "a".repeat(43)
const long = () => Redacted.make(`${Math.random()}${"x".repeat(60)}`)

type Call = Effect.Effect<unknown, { readonly reason: { readonly _tag: string } }>

/** Lists, by the error that is expected, what is asked of the services. */
const calls = Effect.gen(function*() {
  const sessions = yield* SessionCredentialService.SessionCredentialService
  const links = yield* BootstrapCredentialService.BootstrapCredentialService
  const clients = yield* ConnectClientStore.ConnectClientStore
  const runs = yield* RunEventLog.RunEventLog
  const feed = yield* AccessFeed.AccessFeed

  const session = { subject: "ada", scopes: [], method: "bearer-access-token" } as const
  const link = { issuedBy: "operator", scopes: [] } as const
  const { code } = yield* links.issue({ ...link, uses: 50 })
  const redemption = { credential: code, method: "bearer-access-token" } as const
  const client = { account: "ada", proofKeyThumbprint: thumbprint }
  yield* clients.request(client)
  const by = "operator"
  const owner = { subject: "ada" }
  const { run: { epoch, runId } } = yield* runs.start({ owner, threadId: "t", idempotencyKey: "k", request: 1 })
  const redeem = (given: Partial<BootstrapCredentialService.RedeemOptions<never, never>>) =>
    Effect.provideService(
      links.redeem({ ...redemption, ...given }),
      SessionCredentialService.SessionCredentialService,
      sessions
    )
  const at = DateTime.makeUnsafe(0)

  const expected: Readonly<Record<string, ReadonlyArray<Call>>> = {
    InvalidInput: [
      ...noSubjects.map((subject) => sessions.issue({ ...session, subject })),
      ...noLines.map((subject) => sessions.revokeBySubject(subject, by)),
      ...noLines.map((subject) => sessions.list({ subject })),
      ...noLines.map((subject) => links.list({ subject })),
      ...noSubjects.map((account) => clients.request({ ...client, account })),
      ...noSubjects.map((account) => clients.awaitDecision({ ...client, account, requestedAtMillis: 0, timeout: 1 })),
      ...noKeys.map((proofKeyThumbprint) => sessions.issue({ ...session, proofKeyThumbprint })),
      ...noKeys.map((proofKeyThumbprint) => links.issue({ ...link, proofKeyThumbprint })),
      ...noKeys.map((thumbprint) => sessions.revokeByProofKey(thumbprint, by)),
      ...noKeys.map((proofKeyThumbprint) => clients.request({ ...client, proofKeyThumbprint })),
      ...noKeys.map((proofKeyThumbprint) =>
        clients.awaitDecision({ ...client, proofKeyThumbprint, requestedAtMillis: 0, timeout: 1 })
      ),
      ...noKeys.map((key) => clients.setSecurityMode({ mode: "account", trust: [key], by })),
      ...noKeys.map((label) => clients.request({ ...client, label })),
      ...noKeys.map((actor) => sessions.issue({ ...session, actor })),
      ...noKeys.map((linkId) => sessions.issue({ ...session, link: { linkId, issuedBy: null } })),
      ...noKeys.map((id) => links.list({ after: { id, createdAt: at } })),
      ...noKeys.map((key) => clients.list({ after: { proofKeyThumbprint: key, requestedAt: at } })),
      ...noKeys.slice(1).map((id) => sessions.list({ after: SessionId.make(id) })),
      ...noKeys.slice(1).map((id) => redeem({ replaces: SessionId.make(id) })),
      ...noKeys.map((threadId) => runs.start({ owner, threadId, idempotencyKey: "k", request: 1 })),
      ...noKeys.map((idempotencyKey) => runs.abort({ owner, threadId: "t", idempotencyKey })),
      ...noKeys.map((reason) => runs.abort({ runId, reason })),
      ...noKeys.map((subject) => runs.list({ owner: { subject } })),
      ...noCounts.map((uses) => links.issue({ ...link, uses })),
      ...noCounts.map((limit) => sessions.list({ limit })),
      ...noCounts.map((limit) => links.list({ limit })),
      ...noCounts.map((limit) => clients.list({ limit })),
      ...noCounts.map((limit) => runs.list({ owner, limit })),
      ...noCounts.map((limit) => runs.reap({ limit })),
      ...noCounts.map((limit) => runs.sweep({ limit })),
      ...noCounts.map((limit) => feed.history({ limit })),
      ...noCounts.filter((count) => count !== 0).map((before) => feed.history({ before })),
      ...noCounts.map((epoch) => runs.append({ runId, epoch, events: [1] })),
      ...noCounts.map((epoch) => runs.heartbeat({ runId, epoch })),
      ...noCounts.map((epoch) => runs.finish({ runId, epoch, end: { status: "succeeded" } })),
      ...noLifetimes.map((lifetime) => sessions.issue({ ...session, lifetime })),
      ...noLifetimes.map((absoluteLifetime) => sessions.issue({ ...session, absoluteLifetime })),
      ...noNames.map((lifetime) => sessions.issue({ ...session, lifetime })).slice(0, 3),
      sessions.issue({ ...session, method: "dpop-access-token" }),
      // What a host without types leaves out.
      ...["null", "{}"].map(untyped).flatMap((nothing) => [
        sessions.issue(nothing),
        links.issue(nothing),
        links.seed(nothing),
        redeem({ credential: nothing }),
        redeem({ method: untyped("1") })
      ]),
      ...["subject", "scopes", "method"].map((field) => sessions.issue({ ...session, [field]: undefined })),
      links.issue({ ...link, scopes: untyped("1") }),
      links.issue({ ...link, issuedBy: untyped(`"ada"`) }),
      ...noNames.map((scope) => sessions.issue({ ...session, scopes: [scope] })),
      ...noNames.map((scope) => redeem({ scopes: [scope] })),
      ...noNames.map((scope) => links.seed({ credential: long(), scopes: [scope], ready: Effect.void })),
      ...noNames.map((scope) => links.issue({ ...link, scopes: [scope] })),
      ...noNames.map((method) => sessions.issue({ ...session, method })),
      ...noNames.map((method) => redeem({ method })),
      ...noNames.map((kind) => sessions.issue({ ...session, device: { kind } })),
      ...noNames.map((kind) => links.issue({ ...link, kind })),
      ...noNames.map((mode) => clients.setSecurityMode({ mode, by })),
      ...noNames.map((decision) => clients.decide({ client: thumbprint, decision, by })),
      ...noNames.map((deviceType) => clients.request({ ...client, deviceType })),
      ...noNames.map((status) => runs.list({ owner, status })),
      ...noNames.map((status) => runs.finish({ runId, epoch, end: { status } })),
      ...noKeys.slice(1).map((id) => runs.list({ owner, after: { runId: untyped(JSON.stringify(id)), startedAt: at } }))
    ],
    SubjectNotAllowed: [
      ...noSubjects.map((subject) => links.issue({ ...link, subject })),
      ...noSubjects.map((subject) => links.seed({ credential: long(), scopes: [], ready: Effect.void, subject }))
    ],
    LabelNotAllowed: noKeys.map((label) => links.issue({ ...link, label })),
    LifetimeOutOfBounds: [...noLifetimes, ...noNames.slice(0, 3)].map((lifetime) => links.issue({ ...link, lifetime })),
    SessionLifetimeOutOfBounds: [...noLifetimes, ...noNames.slice(0, 3)].flatMap((lifetime) => [
      links.issue({ ...link, sessionLifetime: lifetime }),
      links.issue({ ...link, sessionAbsoluteLifetime: lifetime })
    ]),
    LinkNotFound: noKeys.map((id) => links.revoke(id, by)),
    SessionNotFound: noKeys.slice(1).flatMap((id) => [
      sessions.revoke(SessionId.make(id), by),
      sessions.rename(SessionId.make(id), "phone", by)
    ]),
    ClientNotFound: noKeys.flatMap((key) => [
      clients.get(key),
      clients.decide({ client: key, decision: "approved", by })
    ]),
    ReasonNotAllowed: noKeys.map((reason) => clients.decide({ client: thumbprint, decision: "blocked", by, reason })),
    RunNotFound: noKeys.flatMap((runId) => [
      runs.get({ runId }),
      runs.append({ runId, epoch, events: [1] }),
      runs.heartbeat({ runId, epoch }),
      runs.finish({ runId, epoch, end: { status: "succeeded" } })
    ]),
    SessionRefused: noKeys.map((token) => sessions.verify(Redacted.make(token))),
    TicketRefused: noKeys.map((ticket) => sessions.consumeTicket(Redacted.make(ticket)))
  }
  return expected
})

for (const { layer, name } of stores) {
  describe(`what no service takes (${name})`, () => {
    const services = Layer.mergeAll(
      BootstrapCredentialService.layer,
      SessionCredentialService.layer,
      ConnectClientStore.layer,
      RunEventLog.layer,
      AccessFeed.layer
    ).pipe(Layer.provide(SecretStore.layerMemory), Layer.provideMerge(layer), Layer.provide(NodeCrypto.layer))

    it.live(
      "BOOT-11 RUN-24 C-06: is a typed error that names it, never a defect or an outage, and changes nothing",
      () =>
        Effect.gen(function*() {
          const expected = yield* calls
          const { feed } = yield* AccessRepository
          const before = yield* feed.latestRevision
          for (const [tag, group] of Object.entries(expected)) {
            for (const [index, call] of group.entries()) {
              const found = yield* call.pipe(
                Effect.as("accepted"),
                Effect.catch(({ reason }) => Effect.succeed(reason._tag)),
                Effect.catchDefect((defect) => Effect.succeed(`a defect: ${String(defect)}`))
              )
              assert.strictEqual(found, tag, `${tag} ${index}`)
            }
          }
          assert.strictEqual(yield* feed.latestRevision, before)
        }).pipe(Effect.provide(services)),
      60_000
    )
  })
}
