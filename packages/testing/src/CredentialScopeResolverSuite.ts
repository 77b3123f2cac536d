/**
 * States what `CredentialScopeResolver` does over any `ScopedCredentialRepository`.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import type { CredentialPlace, CredentialScope } from "@sallyport/core/access/ScopedCredential"
import { type ScopedCredentialRow } from "@sallyport/core/access/ScopedCredentialRepository"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import type * as Aead from "effect/crypto/Aead"
import type * as Kdf from "effect/crypto/Kdf"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { type Case, operations, table } from "./CredentialTable.ts"
import { allEvents, brief } from "./internal/accessRows.ts"

const { CredentialScopeResolver: Resolver } = CredentialScopeResolver

const token = "provider.token"
const pair = "provider.pair"
const requirements = CredentialRequirements.layer([
  { key: token, label: "Token" },
  { key: pair, label: "Key pair", kind: "key-pair", parts: ["public", "private"] },
  { key: "provider.org-only", label: "Only for organisations", scopes: ["org"] }
])

const keyBytes = (seed: number) =>
  Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => (index * 7 + seed) % 256))

const single = (text: string) => new Map([["value", Redacted.make(text)]])
const both = (text: string) =>
  new Map([["public", Redacted.make(`public ${text}`)], ["private", Redacted.make(`private ${text}`)]])

const valueOf = Option.match({
  onNone: () => "unset",
  onSome: ({ value }: CredentialScopeResolver.Resolved) => Redacted.value(value)
})

const reasonOf = (error: CredentialScopeResolver.CredentialError) => error.reason._tag

/** Who is where, as a test changes it. */
const makeMemberships = () => {
  const memberships = new Map<string, OrgMembership.Membership>()
  const state = { failing: false }
  return {
    state,
    join: (subject: string, org: string, role: string) =>
      memberships.set(subject, { org: { id: org, role }, workspace: null }),
    set: (subject: string, membership: OrgMembership.Membership) => memberships.set(subject, membership),
    layer: Layer.succeed(
      OrgMembership.OrgMembership,
      OrgMembership.OrgMembership.of({
        active: (subject) =>
          Effect.suspend(() =>
            state.failing
              ? Effect.fail(new OrgMembership.OrgLookupError({ cause: new Error("the directory is down") }))
              : Effect.succeed(memberships.get(subject) ?? OrgMembership.none)
          )
      })
    )
  }
}

/**
 * Runs the tests of `CredentialScopeResolver` over a layer. `name` tells adapters apart in the report.
 *
 * The layer must be a new, empty store each time that it is built, and provide the access feed of that store and the
 * cryptography of the platform.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(
  name: string,
  layer: Layer.Layer<
    AccessRepository | Aead.Aead | Kdf.Kdf | SecureRandom.SecureRandom,
    E
  >
): void => {
  type Stores = AccessRepository | Aead.Aead | Kdf.Kdf | SecureRandom.SecureRandom

  const resolver = (
    memberships: ReturnType<typeof makeMemberships>,
    { activeKey = 1, previousKeys = [], ...options }: CredentialScopeResolver.Options & {
      readonly activeKey?: number
      readonly previousKeys?: ReadonlyArray<number>
    } = {}
  ) =>
    Layer.fresh(CredentialScopeResolver.layerWith(options)).pipe(
      Layer.provide([
        memberships.layer,
        requirements,
        SecretKeys.layerKeys({
          active: keyBytes(activeKey),
          previous: previousKeys.map(keyBytes)
        })
      ])
    )

  describe(`CredentialScopeResolver (${name})`, () => {
    const test = <A, E2>(
      title: string,
      program: (
        memberships: ReturnType<typeof makeMemberships>
      ) => Effect.Effect<A, E2, CredentialScopeResolver.CredentialScopeResolver | Stores>
    ) =>
      it.live(title, () => {
        const memberships = makeMemberships()
        return program(memberships).pipe(
          Effect.provide(Layer.provideMerge(resolver(memberships), layer), { local: true })
        )
      })

    const rowsOf = Effect.fnUntraced(function*(subject: string, org: string) {
      const repository = (yield* AccessRepository).credentials
      const rows = yield* repository.find({
        key: token,
        owners: [{ scope: "user", owner: subject }, { scope: "org", owner: org }]
      })
      return rows.length === 0 ? "nowhere" : rows.map(({ scope }) => scope).join(" + ")
    })

    const perform = Effect.fnUntraced(function*({ operation }: Case, subject: string) {
      const credentials = yield* Resolver
      const caller = { subject }
      const [action, scope] = operation.split(" ")
      switch (action) {
        case "resolve":
          return Option.match(yield* credentials.resolve(caller, token), {
            onNone: () => "unset",
            onSome: ({ source, value }) => `${Redacted.value(value) === `of ${source}` ? source : "another value"}`
          })
        case "status": {
          const status = (yield* credentials.status(caller)).find(({ key }) => key === token)
          return status?.state === "set" ? String(status.source) : String(status?.state)
        }
        case "write":
          return (yield* credentials.write(caller, { key: token, values: single("new"), scope })).credential.scope
        default:
          return (yield* credentials.remove(caller, { key: token, scope })).scope
      }
    }, Effect.catch((error) => Effect.succeed(reasonOf(error))))

    for (const operation of operations) {
      test(
        `SCOPE-01 SCOPE-02 SCOPE-03 SCOPE-04 SCOPE-06 L-50 L-51 L-52 L-54: ${operation}, as the table says for each role, place and state of the look-up`,
        Effect.fnUntraced(function*(memberships) {
          const credentials = yield* Resolver
          for (const [index, line] of table.filter((one) => one.operation === operation).entries()) {
            const [subject, org, founder] = [`ada-${index}`, `acme-${index}`, `founder-${index}`]
            memberships.state.failing = false
            memberships.join(founder, org, "owner")
            for (const scope of line.before === "nowhere" ? [] : line.before.split(" + ")) {
              const writer = scope === "org" ? founder : subject
              yield* credentials.write({ subject: writer }, { key: token, values: single(`of ${scope}`), scope })
            }
            if (line.caller !== "no active org") memberships.join(subject, org, line.caller)
            memberships.state.failing = line.lookUp === "fails"
            const before = (yield* allEvents).length
            const answer = yield* perform(line, subject)
            const about = JSON.stringify(line)
            assert.strictEqual(answer, line.answer.replace(/^\d+ /, ""), about)
            assert.strictEqual(yield* rowsOf(subject, org), line.after, about)
            if (/^\d/.test(line.answer)) assert.lengthOf(yield* allEvents, before, about)
          }
        })
      )
    }

    test(
      "SCOPE-01 SCOPE-03 SCOPE-08 L-50 L-54: an owner connects, a member uses it and disconnects nothing, and roles may change",
      Effect.fnUntraced(function*(memberships) {
        const credentials = yield* Resolver
        const [owner, member] = [{ subject: "olga" }, { subject: "max" }]
        memberships.join("olga", "acme", "owner")
        memberships.join("max", "acme", "member")
        assert.deepStrictEqual(yield* credentials.writeScope(owner, token), { scope: "org", owner: "acme" })
        yield* credentials.write(owner, { key: token, values: single("the org's") })
        const [status] = (yield* credentials.status(member)).filter(({ key }) => key === token)
        assert.deepInclude(status, { state: "set", source: "org", writeScope: "user" })
        assert.strictEqual(valueOf(yield* credentials.resolve(member, token)), "the org's")
        assert.strictEqual(reasonOf(yield* Effect.flip(credentials.remove(member, { key: token }))), "NotPermitted")
        // A member's own key stays theirs, and a promotion doesn't turn its removal into that of the organisation's.
        yield* credentials.write(member, { key: token, values: single("my own") })
        assert.strictEqual(valueOf(yield* credentials.resolve(member, token)), "my own")
        assert.strictEqual(valueOf(yield* credentials.resolve(owner, token)), "the org's")
        memberships.join("max", "acme", "admin")
        assert.strictEqual((yield* credentials.remove(member, { key: token })).scope, "user")
        assert.strictEqual(valueOf(yield* credentials.resolve(owner, token)), "the org's")
        // Who connected for the organisation and is a member now finds the row, and an admin can remove it.
        memberships.join("olga", "acme", "member")
        assert.strictEqual(reasonOf(yield* Effect.flip(credentials.remove(owner, { key: token }))), "NotPermitted")
        assert.strictEqual((yield* credentials.remove(member, { key: token })).scope, "org")
        assert.strictEqual(valueOf(yield* credentials.resolve(owner, token)), "unset")
      })
    )

    test(
      "SCOPE-02 L-59: a personal credential before the organisation's is replaced, or reported",
      Effect.fnUntraced(function*(memberships) {
        const credentials = yield* Resolver
        const ada = { subject: "ada" }
        yield* credentials.write(ada, { key: token, values: single("old") })
        memberships.join("ada", "acme", "admin")
        const explicit = yield* credentials.write(ada, { key: token, values: single("new"), scope: "org" })
        assert.strictEqual(explicit.shadowedBy, "user")
        const [status] = (yield* credentials.status(ada)).filter(({ key }) => key === token)
        assert.deepStrictEqual([status?.source, status?.shadowed], ["user", ["org"]])
        assert.strictEqual(valueOf(yield* credentials.resolve(ada, token)), "old")
        const implied = yield* credentials.write(ada, { key: token, values: single("newer") })
        assert.deepStrictEqual([implied.credential.scope, implied.shadowedBy], ["org", null])
        assert.strictEqual(valueOf(yield* credentials.resolve(ada, token)), "newer")
      })
    )

    test(
      "SCOPE-02 L-51: reads the workspace's last, and only its owners and admins write it",
      Effect.fnUntraced(function*(memberships) {
        const credentials = yield* Resolver
        const ada = { subject: "ada" }
        const join = (org: string, workspace: string) =>
          memberships.set("ada", { org: { id: "acme", role: org }, workspace: { id: "hq", role: workspace } })
        const write = (scope: CredentialScope) =>
          credentials.write(ada, { key: token, values: single(`of ${scope}`), scope })
        join("owner", "member")
        assert.strictEqual(reasonOf(yield* Effect.flip(write("workspace"))), "NotPermitted")
        join("member", "admin")
        yield* write("workspace")
        assert.strictEqual(reasonOf(yield* Effect.flip(write("org"))), "NotPermitted")
        assert.strictEqual(valueOf(yield* credentials.resolve(ada, token)), "of workspace")
        join("owner", "member")
        yield* write("org")
        assert.strictEqual(valueOf(yield* credentials.resolve(ada, token)), "of org")
        assert.strictEqual(
          reasonOf(yield* Effect.flip(credentials.remove(ada, { key: token, scope: "workspace" }))),
          "NotPermitted"
        )
        assert.deepStrictEqual((yield* credentials.list(ada)).map(({ scope }) => scope), ["org", "workspace"])
      })
    )

    test(
      "SCOPE-05 L-55: a bundle is written whole, and read whole from one scope",
      Effect.fnUntraced(function*(memberships) {
        const credentials = yield* Resolver
        const [ada, bob] = [{ subject: "ada" }, { subject: "bob" }]
        memberships.join("ada", "acme", "owner")
        memberships.join("bob", "acme", "member")
        yield* credentials.write(ada, { key: pair, values: both("of the org") })
        for (
          const values of [
            new Map([["private", Redacted.make("half")]]),
            new Map([["public", Redacted.make("x")], ["private", Redacted.make("")]]),
            new Map([...both("x"), ["third", Redacted.make("x")]]),
            single("x"),
            new Map<string, Redacted.Redacted>()
          ]
        ) {
          assert.strictEqual(reasonOf(yield* Effect.flip(credentials.write(bob, { key: pair, values }))), "WrongParts")
        }
        const ofOrg = yield* credentials.requireBundle(bob, pair)
        assert.deepStrictEqual(Array.from(ofOrg.values, ([part, value]) => [part, Redacted.value(value)]), [
          ["public", "public of the org"],
          ["private", "private of the org"]
        ])
        yield* credentials.write(bob, { key: pair, values: both("of Bob") })
        const ofBob = yield* credentials.requireBundle(bob, pair)
        assert.deepStrictEqual(
          [ofBob.source, ...Array.from(ofBob.values.values(), Redacted.value)],
          ["user", "public of Bob", "private of Bob"]
        )
        assert.strictEqual(reasonOf(yield* Effect.flip(credentials.resolve(bob, pair))), "WrongParts")
      })
    )

    test(
      "SCOPE-05 SCOPE-06: bad input is a typed error, and nothing is written",
      Effect.fnUntraced(function*(memberships) {
        const credentials = yield* Resolver
        const ada = { subject: "ada" }
        const refusal = (key: string, values: ReadonlyMap<string, Redacted.Redacted>, scope?: string) =>
          Effect.map(Effect.flip(credentials.write(ada, { key, values, scope })), reasonOf)
        assert.strictEqual(yield* refusal("provider.unknown", single("x")), "UnknownKey")
        assert.strictEqual(yield* refusal("__proto__", single("x")), "UnknownKey")
        assert.strictEqual(yield* refusal(token, single("x"), "solo"), "ScopeNotAllowed")
        assert.strictEqual(yield* refusal("provider.org-only", single("x"), "user"), "ScopeNotAllowed")
        assert.strictEqual(yield* refusal("provider.org-only", single("x")), "NoActiveOrg")
        memberships.join("ada", "acme", "member")
        assert.strictEqual(yield* refusal("provider.org-only", single("x")), "NotPermitted")
        assert.strictEqual(yield* refusal(token, single("")), "WrongParts")
        assert.strictEqual(yield* refusal(token, single("x".repeat(65_536))), "ValueTooLarge")
        for (const id of ["", "a\u0000b", "\ud800", "x".repeat(256)]) {
          memberships.set("ada", { org: { id, role: "owner" }, workspace: null })
          assert.strictEqual(yield* refusal(token, single("x")), "OrgLookupFailed")
          memberships.set("ada", { org: null, workspace: { id, role: "owner" } })
          assert.strictEqual(yield* refusal(token, single("x")), "OrgLookupFailed")
        }
        for (const subject of ["", "a\u0000b", "\ud800", "a\u202eb", "x".repeat(256)]) {
          const calls: ReadonlyArray<Effect.Effect<unknown, CredentialScopeResolver.CredentialError>> = [
            credentials.write({ subject }, { key: token, values: single("x") }),
            credentials.remove({ subject }, { key: token }),
            credentials.resolve({ subject }, token),
            credentials.list({ subject }),
            credentials.status({ subject })
          ]
          for (const call of calls) assert.strictEqual(reasonOf(yield* Effect.flip(call)), "InvalidInput")
        }
        for (const key of ["provider.unknown", "../x", ""]) {
          assert.strictEqual(reasonOf(yield* Effect.flip(credentials.resolve(ada, key))), "UnknownKey")
          assert.strictEqual(reasonOf(yield* Effect.flip(credentials.test(ada, key))), "UnknownKey")
        }
        assert.strictEqual(reasonOf(yield* Effect.flip(credentials.remove(ada, { key: "../x" }))), "UnknownKey")
        assert.deepStrictEqual(yield* allEvents, [])
      })
    )

    test(
      "SCOPE-07 SCOPE-08 L-56: a ciphertext moved to another row, key, scope or write, damaged or of a lost key is undecryptable, and never unset",
      Effect.fnUntraced(function*(memberships) {
        const credentials = yield* Resolver
        const repository = (yield* AccessRepository).credentials
        const [ada, bob] = [{ subject: "ada" }, { subject: "bob" }]
        memberships.join("ada", "acme", "owner")
        const rowOf = Effect.fnUntraced(function*(scope: CredentialScope, owner: string, key: string) {
          const [row] = yield* repository.find({ key, owners: [{ scope, owner }] })
          return yield* Effect.fromOption(Option.fromUndefinedOr(row))
        })
        yield* credentials.write(bob, { key: token, values: single("of Bob") })
        yield* credentials.write(ada, { key: token, values: single("of Ada"), scope: "user" })
        yield* credentials.write(ada, { key: token, values: single("of the org"), scope: "org" })
        yield* credentials.write(ada, { key: pair, values: both("of Ada"), scope: "user" })
        const before = yield* rowOf("user", "ada", token)
        yield* credentials.write(ada, { key: token, values: single("of Ada, newer"), scope: "user" })
        const current = yield* rowOf("user", "ada", token)
        const bytes = Result.getOrThrow(Base64Url.decode(current.sealed))
        const patched = (offset: number, byte: number) =>
          Base64Url.encode(Uint8Array.from(bytes, (old, index) => index === offset ? byte : old))

        const store = (row: ScopedCredentialRow, sealed: string) =>
          repository.put({ ...row, sealed }, undefined, { actor: "mallory", nowMillis: row.updatedAtMillis })
        const forgeries: ReadonlyArray<readonly [string, string]> = [
          ["another row's", (yield* rowOf("user", "bob", token)).sealed],
          ["another scope's", (yield* rowOf("org", "acme", token)).sealed],
          ["another key's", (yield* rowOf("user", "ada", pair)).sealed],
          ["the write before", before.sealed],
          ["another format version", patched(4, 2)],
          ["another algorithm", patched(5, 2)],
          ["a flag", patched(6, 1)],
          ["another key id", patched(8, (bytes[8] ?? 0) ^ 1)],
          ["another salt", patched(24, (bytes[24] ?? 0) ^ 1)],
          ["an altered byte", patched(bytes.length - 1, (bytes[bytes.length - 1] ?? 0) ^ 1)],
          ["truncated", Base64Url.encode(bytes.subarray(0, bytes.length - 1))],
          ["truncated to its head", Base64Url.encode(bytes.subarray(0, 20))],
          ["not encrypted", Base64Url.encode(new TextEncoder().encode(`{"value":"x"}`))],
          ["not base64url", "!!"]
        ]
        for (const [what, sealed] of forgeries) {
          yield* store(current, sealed)
          const error = yield* Effect.flip(credentials.resolve(ada, token))
          assert.strictEqual(reasonOf(error), "Undecryptable", what)
          const [status] = (yield* credentials.status(ada)).filter(({ key }) => key === token)
          assert.deepInclude(status, { state: "undecryptable", source: "user" }, what)
          // Listing decrypts nothing, and so has nothing to fail.
          assert.lengthOf(yield* credentials.list(ada), 3, what)
        }
        yield* store(current, current.sealed)
        assert.strictEqual(valueOf(yield* credentials.resolve(ada, token)), "of Ada, newer")
        const retired = yield* Resolver.pipe(
          Effect.flatMap((other) => Effect.flip(other.resolve(ada, token))),
          Effect.provide(resolver(memberships, { activeKey: 2 }))
        )
        assert.strictEqual(reasonOf(retired), "Undecryptable")
        // Setting it again, or removing it, is the way out.
        yield* store(current, "!!")
        yield* credentials.write(ada, { key: token, values: single("again"), scope: "user" })
        assert.strictEqual(valueOf(yield* credentials.resolve(ada, token)), "again")
      })
    )

    test(
      "SCOPE-07 SEC-07: rotates every value to a new key, can be repeated, and leaves what it cannot read",
      Effect.fnUntraced(function*(memberships) {
        const credentials = yield* Resolver
        const repository = (yield* AccessRepository).credentials
        const subjects = Array.from({ length: 70 }, (_, index) => ({ subject: `u${index}` }))
        yield* Effect.forEach(
          subjects,
          (one) => credentials.write(one, { key: token, values: single(`of ${one.subject}`) })
        )
        const [lost] = yield* repository.find({ key: token, owners: [{ scope: "user", owner: "u7" }] })
        yield* repository.put(
          { ...(yield* Effect.fromOption(Option.fromUndefinedOr(lost))), sealed: "!!" },
          undefined,
          { actor: "mallory", nowMillis: 1 }
        )
        const keys = SecretKeys.layerKeys({ active: keyBytes(2), previous: [keyBytes(1)] })
        const rotate = CredentialScopeResolver.rotate().pipe(Effect.provide(keys))
        const undecryptable: ReadonlyArray<CredentialPlace> = [{ scope: "user", owner: "u7", key: token }]
        assert.deepStrictEqual(yield* rotate, { rewritten: 69, unchanged: 0, undecryptable })
        assert.deepStrictEqual(yield* rotate, { rewritten: 0, unchanged: 69, undecryptable })
        const values = yield* Resolver.pipe(
          Effect.flatMap((other) =>
            Effect.forEach(subjects.filter(({ subject }) => subject !== "u7"), (one) => other.resolve(one, token))
          ),
          Effect.provide(resolver(memberships, { activeKey: 2 }))
        )
        assert.deepStrictEqual(
          values.map(valueOf),
          subjects.filter(({ subject }) => subject !== "u7").map(({ subject }) => `of ${subject}`)
        )
      })
    )

    test(
      "SCOPE-12: what another process changes is used at once, once the feed has told of it",
      Effect.fnUntraced(function*(memberships) {
        const credentials = yield* Resolver
        const ada = { subject: "ada" }
        yield* credentials.write(ada, { key: token, values: single("0") })
        yield* Effect.gen(function*() {
          const other = yield* Resolver
          for (const next of ["1", "2", "3"]) {
            assert.notStrictEqual(valueOf(yield* credentials.resolve(ada, token)), next)
            yield* other.write(ada, { key: token, values: single(next) })
            assert.strictEqual(valueOf(yield* other.resolve(ada, token)), next)
            yield* credentials.resolve(ada, token).pipe(
              Effect.delay("1 millis"),
              Effect.repeat({ until: (found) => valueOf(found) === next })
            )
          }
          yield* other.remove(ada, { key: token })
          yield* credentials.resolve(ada, token).pipe(
            Effect.delay("1 millis"),
            Effect.repeat({ until: Option.isNone })
          )
        }).pipe(Effect.provide(resolver(memberships)))
      })
    )

    test(
      "SCOPE-12 SEC-08: every mutation and read is in the feed, repeated reads are counted, and no value is there or in an error",
      Effect.fnUntraced(function*(memberships) {
        const ada = { subject: "ada" }
        memberships.join("ada", "acme", "owner")
        memberships.join("bob", "acme", "member")
        const secret = "s3cr3t-of-the-org"
        yield* Effect.gen(function*() {
          const credentials = yield* Resolver
          yield* credentials.write(ada, { key: token, values: single(secret) })
          yield* Effect.repeat(credentials.resolve(ada, token), { times: 4 })
          assert.deepStrictEqual((yield* allEvents).map(brief), [
            `credentialUpserted org acme ${token}`,
            `credentialRead org acme ${token} 1`
          ])
          yield* credentials.resolve({ subject: "bob" }, token)
          yield* credentials.status(ada)
          yield* credentials.list(ada)
        }).pipe(Effect.provide(resolver(memberships)))
        const credentials = yield* Resolver
        yield* credentials.remove(ada, { key: token })
        const events = yield* allEvents
        assert.deepStrictEqual(events.map((event) => `${event.actor}: ${brief(event)}`), [
          `ada: credentialUpserted org acme ${token}`,
          `ada: credentialRead org acme ${token} 1`,
          `bob: credentialRead org acme ${token} 1`,
          // When the service ends, what it has counted is written.
          `ada: credentialRead org acme ${token} 4`,
          `ada: credentialRemoved org acme ${token}`
        ])
        assert.notInclude(JSON.stringify(events), secret)
      })
    )
  })
}
