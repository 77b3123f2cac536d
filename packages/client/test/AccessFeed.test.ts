import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/client/AccessFeed"
import * as Approval from "@sallyport/client/Approval"
import type { ClientError } from "@sallyport/client/ClientError"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { connect, eventually, having, network, pretend, start, storages } from "./support.ts"

/** Follows the feed at an address, and keeps every view. */
const follow = Effect.fnUntraced(function*(baseUrl: string, token: Redacted.Redacted) {
  const context = yield* Effect.orDie(Layer.build(
    SallyportClient.layer({ baseUrl, credentials: having(token) }).pipe(
      Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
    )
  ))
  const views: Array<AccessFeed.AccessView> = []
  let error: ClientError | undefined
  const fiber = yield* Context.get(context, AccessFeed.AccessFeed).follow.pipe(
    Stream.runForEach((view) => Effect.sync(() => void views.push(view))),
    Effect.catch((failure) => Effect.sync(() => void (error = failure))),
    Effect.forkScoped
  )
  return { views, fiber, last: () => views.at(-1), error: () => error }
})

const snapshot = (revision: number, more: object = {}) =>
  `event: snapshot\nid: ${revision}\ndata: ${JSON.stringify({ revision, sessions: [], pairingLinks: [], ...more })}\n\n`

const head = { "content-type": "text/event-stream" }

describe("the access feed", () => {
  for (const [name, storage] of Object.entries(storages)) {
    it.live(`FEED-01: shows who has access, and every change of it, over lost connections (${name})`, () =>
      Effect.gen(function*() {
        const server = yield* start({ storage })
        const { access } = yield* connect(server.url, having(yield* server.token()))
        const wire = yield* network(server.port)
        const { last, views } = yield* follow(wire.url, yield* server.token())
        yield* eventually(() => last()?.connected === true)
        assert.lengthOf(last()?.devices ?? [], 2)
        assert.deepStrictEqual(last()?.devices.filter(({ current }) => current).length, 1)

        const { link } = yield* access.issueLink({ label: "a phone" })
        yield* eventually(() => last()?.links.length === 1)
        assert.strictEqual(last()?.links[0]?.id, link.id)

        // What happens while it is cut off is shown afterwards.
        wire.lead(1)
        wire.cutAll()
        yield* eventually(() => last()?.connected === false)
        assert.lengthOf(last()?.links ?? [], 1, "what was known stays")
        yield* access.revokeLink(link.id)
        wire.lead(server.port)
        yield* eventually(() => last()?.connected === true && last()?.links.length === 0)
        assert.deepStrictEqual(last()?.changes.map(({ event }) => event), ["pairingLinkRemoved", "pairingLinkUpserted"])
        const revisions = views.map(({ revision }) => revision)
        assert.deepStrictEqual(revisions, revisions.toSorted((a, b) => a - b))
      }))
  }

  it.live("SESS-08 FEED-01: ends as signed out when its own session is revoked", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, having(yield* server.token()))
      const { error, fiber, last } = yield* follow(server.url, yield* server.token())
      yield* eventually(() => last()?.connected === true)
      yield* access.revokeOtherSessions
      yield* Fiber.join(fiber)
      assert.strictEqual(error()?.reason._tag, "Unauthorized")
    }))

  it.live("FEED-01: fails at once if the session may not read it", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { error, fiber } = yield* follow(server.url, yield* server.token(["runs:read"]))
      yield* Fiber.join(fiber)
      assert.strictEqual(error()?.reason._tag, "Forbidden")
    }))

  it.live("L-35: a mode that the server does not say is none, and a later one is shown", () =>
    Effect.gen(function*() {
      let say = (_text: string) => {}
      const server = yield* pretend((_request, response) => {
        response.writeHead(200, head)
        say = (text) => void response.write(text)
        say(snapshot(3, { connectClients: [] }))
      })
      const { last } = yield* follow(server.url, yield* Effect.flatMap(start(), ({ token }) => token()))
      yield* eventually(() => last()?.revision === 3)
      assert.isTrue(Option.isNone(last()?.mode ?? Option.some("nothing came")))
      const change = { revision: 4, actor: "operator", at: "2026-01-01T00:00:00.000Z", mode: "client-approval" }
      say(`event: connectSecurityModeUpdated\nid: 4\ndata: ${JSON.stringify(change)}\n\n`)
      yield* eventually(() => last()?.revision === 4)
      assert.deepStrictEqual(last()?.mode, Option.some("client-approval"))
      // A snapshot that does not say it, as after a reconnect to a server that cannot read it.
      say(snapshot(5))
      yield* eventually(() => last()?.revision === 5)
      assert.deepStrictEqual(last()?.mode, Option.none())
      assert.deepStrictEqual(last()?.clients, Option.none())
    }))

  it.live("FEED-03: skips events of a later version, and repeats nothing that was seen", () =>
    Effect.gen(function*() {
      const removed = (revision: number) =>
        `event: sessionRemoved\nid: ${revision}\ndata: ${
          JSON.stringify({ revision, actor: "a", at: "2026-01-01T00:00:00.000Z", id: "x", reason: "tired", more: 1 })
        }\n\n`
      const server = yield* pretend((_request, response) => {
        response.writeHead(200, head)
        response.write(
          `${snapshot(1)}event: moonRose\nid: 2\ndata: full\n\n${removed(3)}${removed(3)}${removed(2)}${removed(4)}`
        )
      })
      const { last } = yield* follow(server.url, yield* Effect.flatMap(start(), ({ token }) => token()))
      yield* eventually(() => last()?.revision === 4)
      assert.deepStrictEqual(last()?.changes.map(({ data }) => data.revision), [4, 3])
    }))
})

/** Connects to a server's approval. */
const connectApproval = (baseUrl: string, token: Redacted.Redacted) =>
  Effect.map(
    Effect.orDie(Layer.build(
      SallyportClient.layer({ baseUrl, credentials: having(token) }).pipe(
        Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
      )
    )),
    Context.get(Approval.Approval)
  )

describe("the approval", () => {
  it.live("HTTP-09: lists all clients that have asked to connect, page after page", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const approval = yield* connectApproval(server.url, yield* server.token())
      const thumbprints = Array.from({ length: 401 }, (_, index) => String(index).padStart(43, "a"))
      for (const proofKeyThumbprint of thumbprints) {
        yield* Effect.orDie(server.clients.request({ account: `account-${proofKeyThumbprint}`, proofKeyThumbprint }))
      }
      const clients = yield* approval.clients
      assert.deepStrictEqual(
        clients.map(({ proofKeyThumbprint }) => proofKeyThumbprint).toSorted(),
        thumbprints.toSorted()
      )
      const lesser = yield* connectApproval(server.url, yield* server.token(["access:read"]))
      assert.strictEqual((yield* Effect.flip(lesser.clients)).reason._tag, "Forbidden")
    }))

  it.live("L-15: sends the code that was seen, and fails with the server's reason", () =>
    Effect.gen(function*() {
      const bodies: Array<string> = []
      const server = yield* pretend((request, response) => {
        bodies.push(request.body)
        response.writeHead(409, { "content-type": "application/json" })
        response.end(JSON.stringify({
          _tag: "Conflict",
          code: "connect_request_changed",
          message: "It has asked again",
          retryable: false,
          traceId: "0".repeat(32)
        }))
      })
      const token = yield* Effect.flatMap(start(), ({ token }) => token())
      const approval = yield* connectApproval(server.url, token)
      for (const decision of ["approve", "reject", "revoke", "block"] as const) {
        const { reason } = yield* Effect.flip(approval.decide(decision, { client: "a".repeat(43), code: "4T9KWX2M" }))
        assert.strictEqual(reason._tag, "Conflict")
      }
      assert.deepStrictEqual(server.requests, [
        "POST /api/auth/connect-clients/approve",
        "POST /api/auth/connect-clients/reject",
        "POST /api/auth/connect-clients/revoke",
        "POST /api/auth/connect-clients/block"
      ])
      for (const body of bodies) assert.strictEqual(JSON.parse(body).code, "4T9KWX2M")
    }))
})
