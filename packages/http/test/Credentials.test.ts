import * as Access from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import { AccessStreamEvent } from "@sallyport/contract/AccessGroup"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as CredentialHandlers from "@sallyport/http/CredentialHandlers"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { CredentialApi } from "@sallyport/contract/CredentialGroup"
import { fuzz, surfaceOf } from "../../../test-support/fuzz.ts"
import { type Answer, assertError, bearer, eventsOf, follow, start } from "./support.ts"

const decodeEvent = Schema.decodeUnknownSync(AccessStreamEvent)

const memberships = new Map([
  ["olga", { org: { id: "acme", role: "owner" } }],
  ["max", { org: { id: "acme", role: "member" } }]
])

/** A server with credentials, whose look-up of organisations and provider can be told what to answer. */
const serve = Effect.gen(function*() {
  const state = { lookUpFails: false, verdict: "Valid" }
  const Membership = Layer.effect(
    OrgMembership.OrgMembership,
    OrgMembership.OrgMembership.useSync((known) =>
      OrgMembership.OrgMembership.of({
        active: (subject) =>
          Effect.suspend(() =>
            state.lookUpFails
              ? Effect.fail(new OrgMembership.OrgLookupError({ cause: new Error("the directory at 10.0.0.7 is down") }))
              : known.active(subject)
          )
      })
    )
  ).pipe(Layer.provide(OrgMembership.layerStatic(memberships)))
  const Resolver = CredentialScopeResolver.layerWith({ maxValueBytes: 1_000 }).pipe(
    Layer.provide([
      Membership,
      CredentialRequirements.layer([
        {
          key: "provider.token",
          label: "Token",
          validator: () =>
            Effect.sync((): CredentialRequirements.Verdict =>
              state.verdict === "Valid"
                ? { _tag: "Valid", account: "octocat" }
                : { _tag: "Rejected", detail: "revoked" }
            )
        },
        { key: "provider.pair", label: "Pair", parts: ["id", "secret"] },
        { key: "provider.org", label: "Org", scopes: ["org"] }
      ]),
      SecretKeys.layerKeys({ active: Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => index)) }),
      Access.layerMemory
    ]),
    Layer.orDie
  )
  const server = yield* start({
    routes: Layer.merge(Sallyport.layer(), Layer.provide(CredentialHandlers.layerRoutes(), Resolver))
  })
  const call = (subject: string, method: string, path: string, body?: unknown) =>
    Effect.flatMap(
      server.token({ subject }),
      (token) => server.send({ method, path: `/api/credentials${path}`, headers: bearer(token), body })
    )
  return { server, state, call }
})

const statusOf = (answer: Answer, key: string): Record<string, unknown> => {
  const { credentials } = answer.json
  const found = Array.isArray(credentials) ? credentials.find((one) => one.key === key) : undefined
  return { ...found }
}

describe("credentials over HTTP", () => {
  it.live("BOOT-11: requests of any bytes get an answer, which is never a defect", () =>
    Effect.gen(function*() {
      const { server } = yield* serve
      yield* fuzz({
        port: server.port,
        surface: surfaceOf(CredentialApi),
        credentials: Effect.map(server.token({ subject: "olga" }), (token) => [`authorization: Bearer ${token}`]),
        runs: 400
      })
      assert.deepStrictEqual(server.logged.filter((line) => /"level":"(?:ERROR|FATAL)"/.test(line)), [])
    }), 60_000)

  it.live("SCOPE-01 SCOPE-03 SCOPE-08 L-50: an owner connects, every member sees and uses it, and a member cannot take it away", () =>
    Effect.gen(function*() {
      const { call } = yield* serve
      const set = yield* call("olga", "PUT", "/provider.token", { value: "s3cret-value" })
      assert.strictEqual(set.status, 200, set.text)
      assert.notInclude(set.text, "s3cret-value")
      assert.deepInclude(set.json.credential, { scope: "org", owner: "acme", updatedBy: "olga" })
      const status = yield* call("max", "GET", "/status")
      assert.strictEqual(status.status, 200)
      assert.strictEqual(status.headers["cache-control"], "no-store")
      assert.deepInclude(statusOf(status, "provider.token"), { state: "set", source: "org", writeScope: "user" })
      assert.deepInclude(statusOf(status, "provider.org"), { state: "unset", source: null, writeScope: null })
      assertError(yield* call("max", "DELETE", "/provider.token"), {
        status: 403,
        tag: "Forbidden",
        code: "role_required"
      })
      assert.strictEqual((yield* call("max", "PUT", "/provider.token", { value: "own" })).status, 200)
      assert.deepInclude(statusOf(yield* call("max", "GET", "/status"), "provider.token"), {
        source: "user",
        shadowed: ["org"]
      })
      const listed = yield* call("max", "GET", "")
      assert.lengthOf(Array.isArray(listed.json.credentials) ? listed.json.credentials : [], 2)
      assert.notInclude(listed.text, "s3cret-value")
      assert.strictEqual((yield* call("max", "DELETE", "/provider.token")).status, 204)
      assert.strictEqual((yield* call("olga", "DELETE", "/provider.token?scope=org")).status, 204)
      assertError(yield* call("olga", "DELETE", "/provider.token"), {
        status: 404,
        tag: "NotFound",
        code: "credential_not_set"
      })
    }))

  it.live("SCOPE-04 SCOPE-06 L-51 L-52: answers 409 without an organisation, 403 without the right and 503 when the look-up fails, and writes nothing", () =>
    Effect.gen(function*() {
      const { call, state } = yield* serve
      const value = { value: "x", scope: "org" }
      const conflict = { status: 409, tag: "Conflict", code: "no_active_org" }
      assertError(yield* call("solo", "PUT", "/provider.token", value), conflict)
      assertError(yield* call("solo", "PUT", "/provider.org", { value: "x" }), conflict)
      assertError(yield* call("solo", "DELETE", "/provider.token?scope=workspace"), conflict)
      const forbidden = { status: 403, tag: "Forbidden", code: "role_required" }
      assertError(yield* call("max", "PUT", "/provider.token", value), forbidden)
      assertError(yield* call("max", "DELETE", "/provider.token?scope=org"), forbidden)
      state.lookUpFails = true
      const unavailable = { status: 503, tag: "Unavailable", code: "unavailable", retryable: true }
      for (
        const answer of [
          yield* call("olga", "PUT", "/provider.token", { value: "x" }),
          yield* call("olga", "PUT", "/provider.token", { value: "x", scope: "user" }),
          yield* call("olga", "DELETE", "/provider.token"),
          yield* call("olga", "GET", ""),
          yield* call("olga", "GET", "/status"),
          yield* call("olga", "POST", "/provider.token/test")
        ]
      ) {
        assertError(answer, unavailable)
        assert.notInclude(answer.text, "10.0.0.7")
      }
      state.lookUpFails = false
      for (const subject of ["olga", "max", "solo"]) {
        assert.deepStrictEqual((yield* call(subject, "GET", "")).json.credentials, [])
      }
    }))

  it.live("SCOPE-05 SCOPE-09: refuses unknown keys and scopes, half bundles and large values, without echoing a value", () =>
    Effect.gen(function*() {
      const { call, server } = yield* serve
      const invalid = { status: 400, tag: "InvalidRequest", code: "invalid_request" }
      for (
        const [key, body] of [
          ["provider.token", {}],
          ["provider.token", { value: "s3cret", values: { value: "s3cret" } }],
          ["provider.token", { value: "" }],
          ["provider.token", { value: 1 }],
          ["provider.token", { value: "s3cret", scope: "solo" }],
          ["provider.org", { value: "s3cret", scope: "user" }],
          ["provider.pair", { value: "s3cret" }],
          ["provider.pair", { values: { secret: "s3cret" } }],
          ["provider.pair", { values: { id: "", secret: "s3cret" } }],
          ["provider.pair", { values: { id: "a", secret: "s3cret", third: "s3cret" } }]
        ] as const
      ) {
        const answer = yield* call("olga", "PUT", `/${key}`, body)
        assertError(answer, invalid)
        assert.notInclude(answer.text, "s3cret")
      }
      const unknown = { status: 404, tag: "NotFound", code: "credential_unknown" }
      assertError(yield* call("olga", "PUT", "/provider.none", { value: "s3cret" }), unknown)
      assertError(yield* call("olga", "POST", "/provider.none/test"), unknown)
      assertError(yield* call("olga", "DELETE", "/Provider%2F..%2Fx"), unknown)
      assertError(yield* call("olga", "PUT", "/provider.token", { value: "s3cret".repeat(500) }), {
        status: 413,
        tag: "TooLarge",
        code: "limit_exceeded"
      })
      assert.deepStrictEqual((yield* call("olga", "GET", "")).json.credentials, [])
      assert.strictEqual(
        (yield* call("olga", "PUT", "/provider.pair", { values: { id: "a", secret: "s3cret" } })).status,
        200
      )
      assert.notInclude(server.logged.join("\n"), "s3cret")
    }))

  it.live("SCOPE-11: tests a credential and shows it as invalid while it counts as rejected", () =>
    Effect.gen(function*() {
      const { call, state } = yield* serve
      yield* call("olga", "PUT", "/provider.token", { value: "x" })
      const valid = yield* call("max", "POST", "/provider.token/test")
      assert.deepStrictEqual(valid.json.verdict, { _tag: "Valid", account: "octocat" })
      state.verdict = "Rejected"
      const rejected = yield* call("max", "POST", "/provider.token/test")
      assert.deepStrictEqual(rejected.json.verdict, { _tag: "Rejected", detail: "revoked" })
      assert.deepInclude(statusOf(yield* call("olga", "GET", "/status"), "provider.token"), { state: "invalid" })
    }))

  it.live("SCOPE-12 FEED-03: the access feed tells of every change and test, without the value, in a form that clients decode", () =>
    Effect.gen(function*() {
      const { call, server } = yield* serve
      const token = yield* server.token()
      const reading = yield* follow(server.port, { path: "/api/auth/access", headers: bearer(token) })
      yield* call("olga", "PUT", "/provider.token", { value: "s3cret" })
      yield* call("max", "POST", "/provider.token/test")
      yield* call("olga", "DELETE", "/provider.token")
      const text = yield* reading.until((all) => all.includes("event: credentialRemoved") && all.endsWith("\n\n"))
      const events = eventsOf(text).filter(({ event }) => event?.startsWith("credential") === true)
      assert.deepStrictEqual(
        events.map((event) => {
          const { data } = decodeEvent(event)
          assert.notStrictEqual(typeof data, "string", "known to this version of the contract")
          return [event.event, typeof data !== "string" && "actor" in data ? data.actor : ""]
        }),
        [["credentialUpserted", "olga"], ["credentialRead", "max"], ["credentialRemoved", "olga"]]
      )
      assert.notInclude(text, "s3cret")
      assert.notInclude(text, "sealed")
    }))

  it.live("AUTH-02: asks for credentials:read to look and credentials:write to change and test", () =>
    Effect.gen(function*() {
      const { server } = yield* serve
      const reader = yield* server.token({ subject: "olga", scopes: ["credentials:read"] })
      const other = yield* server.token({ subject: "olga", scopes: ["runs:read"] })
      const send = (token: string, method: string, path: string, body?: unknown) =>
        server.send({ method, path: `/api/credentials${path}`, headers: bearer(token), body })
      const refused = { status: 403, tag: "Forbidden", code: "scope_required" }
      assert.strictEqual((yield* send(reader, "GET", "")).status, 200)
      assert.strictEqual((yield* send(reader, "GET", "/status")).status, 200)
      assertError(yield* send(reader, "PUT", "/provider.token", { value: "x" }), refused)
      assertError(yield* send(reader, "DELETE", "/provider.token"), refused)
      assertError(yield* send(reader, "POST", "/provider.token/test"), refused)
      assertError(yield* send(other, "GET", ""), refused)
      assert.strictEqual((yield* server.send({ path: "/api/credentials/status" })).status, 401)
      const document = yield* server.send({ path: "/api/credentials/openapi.json" })
      assert.sameMembers(Object.keys(document.json.paths ?? {}), [
        "/api/credentials",
        "/api/credentials/status",
        "/api/credentials/{key}",
        "/api/credentials/{key}/test"
      ])
    }))
})
