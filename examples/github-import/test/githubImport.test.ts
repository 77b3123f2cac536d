import { assert, describe, it } from "@effect/vitest"
import { CredentialScopeResolver } from "@sallyport/core/credentials/CredentialScopeResolver"
import { ConfigProvider, Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import * as FakeGitHub from "../src/FakeGitHub.ts"
import { importRepository } from "../src/Import.ts"
import * as Members from "../src/Members.ts"
import * as Services from "../src/Services.ts"

const key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

const withServices = <A, E>(
  program: (
    github: FakeGitHub.FakeGitHub["Service"]
  ) => Effect.Effect<A, E, Effect.Services<ReturnType<typeof importRepository>> | SqlClient.SqlClient>
) =>
  Effect.gen(function*() {
    const github = yield* FakeGitHub.FakeGitHub
    return yield* Effect.provide(
      program(github),
      Services.layer({ filename: ":memory:", apiUrl: github.url, repository: "octo/private" })
    )
  }).pipe(
    Effect.provide(FakeGitHub.layer),
    Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ SALLYPORT_SECRET_KEY: key })))
  )

const connect = Effect.fnUntraced(function*(subject: string, token: string) {
  const credentials = yield* CredentialScopeResolver
  yield* credentials.write({ subject }, {
    key: "github.token",
    values: new Map([["value", Redacted.make(token)]])
  })
})

describe("examples/github-import", () => {
  it.live("SCOPE-01 SCOPE-02 SCOPE-09 a member reads a private repository's files with the organisation's token, by each form of its address", () =>
    withServices(Effect.fnUntraced(function*({ url }) {
      yield* Members.join("olga", "acme", "owner")
      yield* Members.join("max", "acme", "member")
      yield* connect("olga", FakeGitHub.goodToken)
      const credentials = yield* CredentialScopeResolver
      assert.strictEqual((yield* credentials.test({ subject: "max" }, "github.token"))._tag, "Valid")
      for (
        const address of [
          "octo/private",
          "https://github.com/octo/private",
          "https://github.com/octo/private.git",
          "git@github.com:octo/private.git",
          "ssh://git@github.com/octo/private"
        ]
      ) {
        const files = yield* importRepository({ subject: "max" }, { address, apiUrl: url })
        assert.deepStrictEqual(Object.fromEntries(files), FakeGitHub.files, address)
      }
    })))

  it.live("SCOPE-09 SCOPE-11 L-57 tells apart what is wrong, and an outage or a limit marks no token as rejected", () =>
    withServices(Effect.fnUntraced(function*({ state, url }) {
      const credentials = yield* CredentialScopeResolver
      const problem = (address = "octo/private") =>
        importRepository({ subject: "ada" }, { address, apiUrl: url }).pipe(
          Effect.match({
            onFailure: (error) => error._tag === "ImportError" ? error.problem : error.reason._tag,
            onSuccess: () => "imported"
          })
        )
      const verdict = Effect.map(credentials.test({ subject: "ada" }, "github.token"), ({ _tag }) => _tag)
      assert.deepStrictEqual([yield* problem(), yield* verdict], ["NeedsToken", "NeedsToken"])
      assert.strictEqual(yield* problem("https://example.org/octo/private"), "WrongAddress")
      yield* connect("ada", FakeGitHub.strangersToken)
      assert.deepStrictEqual([yield* problem(), yield* verdict], ["WrongAddress", "WrongAddress"])
      yield* connect("ada", FakeGitHub.goodToken)
      assert.strictEqual(yield* problem("octo/missing"), "WrongAddress")
      state.mode = "down"
      assert.deepStrictEqual([yield* problem(), yield* verdict], ["ProviderDown", "ProviderDown"])
      state.mode = "rate-limited"
      assert.deepStrictEqual([yield* problem(), yield* verdict], ["RateLimited", "RateLimited"])
      state.mode = "normal"
      assert.deepStrictEqual([yield* problem(), yield* verdict], ["imported", "Valid"])
      yield* connect("ada", "github_pat_revoked")
      assert.deepStrictEqual([yield* problem(), yield* verdict], ["Rejected", "Rejected"])
      // From now on no request to GitHub uses it.
      const { requests } = state
      assert.strictEqual(yield* problem(), "CredentialRejected")
      assert.strictEqual(state.requests, requests)
    })))

  it.live("SCOPE-04 a members table that cannot be read is a retryable error, and never a caller without an organisation", () =>
    withServices(Effect.fnUntraced(function*({ state, url }) {
      yield* Members.join("olga", "acme", "owner")
      yield* connect("olga", FakeGitHub.goodToken)
      const sql = yield* SqlClient.SqlClient
      yield* sql`ALTER TABLE members RENAME TO members_gone`
      const { requests } = state
      const reason = yield* importRepository({ subject: "olga" }, { address: "octo/private", apiUrl: url }).pipe(
        Effect.match({
          onFailure: (error) => error._tag === "CredentialError" ? error.reason._tag : error.problem,
          onSuccess: () => "imported"
        })
      )
      assert.strictEqual(reason, "OrgLookupFailed")
      assert.strictEqual(state.requests, requests)
    })))

  it.live("runs as its README says", () =>
    Effect.promise(async () => {
      const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))
      const child = spawn(process.execPath, ["--conditions=sallyport-source", main], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      let output = ""
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => output += chunk)
      const [code] = await once(child, "close")
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(output.trim().split("\n"), [
        "olga connected GitHub for the org acme",
        "max asks GitHub about it: Valid",
        "README.md: 27 characters",
        "src/main.ts: 25 characters"
      ])
    }))
})
