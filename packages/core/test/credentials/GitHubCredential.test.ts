import { assert, describe, it } from "@effect/vitest"
import type { Verdict } from "@sallyport/core/credentials/CredentialRequirements"
import * as GitHubCredential from "@sallyport/core/credentials/GitHubCredential"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

/** Asks a GitHub that answers as told, and returns the verdict and what was asked. */
const check = Effect.fnUntraced(function*(
  answer:
    | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: unknown }
    | "unreachable",
  options: GitHubCredential.Options & { readonly token?: string | undefined } = { token: "ghp_secret" }
) {
  const asked: Array<string> = []
  const client = HttpClient.make((request, url) => {
    asked.push(`${url.href} ${request.headers["authorization"] ?? "anonymous"}`)
    return answer === "unreachable"
      ? Effect.fail(
        new HttpClientError.HttpClientError({
          reason: new HttpClientError.TransportError({ request, cause: new Error("ECONNREFUSED") })
        })
      )
      : Effect.succeed(HttpClientResponse.fromWeb(
        request,
        new Response(JSON.stringify(answer.body ?? {}), { status: answer.status, headers: answer.headers ?? {} })
      ))
  })
  const validator = yield* GitHubCredential.makeValidator(options).pipe(
    Effect.provideService(HttpClient.HttpClient, client)
  )
  const { token } = options
  const verdict = yield* validator(
    token === undefined ? Option.none() : Option.some(new Map([["value", Redacted.make(token)]]))
  )
  return { verdict, asked }
})

describe("GitHubCredential", () => {
  it.effect("SCOPE-09: tells needs a token, rejected, rate-limited, wrong address and down apart", () =>
    Effect.gen(function*() {
      const repository = "octo/private"
      const token = "ghp_secret"
      const tag = (answer: Parameters<typeof check>[0], options?: Parameters<typeof check>[1]) =>
        Effect.map(check(answer, options ?? { token, repository }), ({ verdict }) => verdict._tag)
      assert.strictEqual(yield* tag({ status: 200 }), "Valid")
      assert.strictEqual(yield* tag({ status: 401 }), "Rejected")
      assert.strictEqual(yield* tag({ status: 403 }), "Rejected")
      assert.strictEqual(yield* tag({ status: 404 }), "WrongAddress")
      assert.strictEqual(yield* tag({ status: 451 }), "WrongAddress")
      for (const status of [500, 502, 503, 504, 418]) {
        assert.strictEqual(yield* tag({ status }), "ProviderDown", String(status))
      }
      assert.strictEqual(yield* tag("unreachable"), "ProviderDown")
      for (const status of [401, 403, 404]) {
        assert.strictEqual(yield* tag({ status }, { repository }), "NeedsToken", String(status))
      }
      assert.strictEqual(yield* tag({ status: 200 }, { repository }), "Valid")
      assert.strictEqual(yield* tag({ status: 200 }, {}), "NeedsToken")
    }))

  it.effect("SCOPE-09 SCOPE-11: says until when a limit lasts, in each way in which GitHub tells it", () =>
    Effect.gen(function*() {
      const limited = (status: number, headers: Record<string, string>) =>
        Effect.map(check({ status, headers }), ({ verdict }) => verdict)
      const until = (millis: number | null): Verdict => ({
        _tag: "RateLimited",
        until: millis === null ? null : DateTime.makeUnsafe(millis)
      })
      const primary = { "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000000" }
      assert.deepStrictEqual(yield* limited(403, primary), until(1_800_000_000_000))
      assert.deepStrictEqual(yield* limited(429, primary), until(1_800_000_000_000))
      // The test's clock stands at zero.
      assert.deepStrictEqual(yield* limited(403, { "retry-after": "60" }), until(60_000))
      assert.deepStrictEqual(yield* limited(429, {}), until(null))
      assert.deepStrictEqual(yield* limited(403, { "x-ratelimit-remaining": "0" }), until(null))
      assert.strictEqual((yield* limited(403, { "x-ratelimit-remaining": "59" }))._tag, "Rejected")
    }))

  it.effect("asks for the account or the repository, with the token in the header only", () =>
    Effect.gen(function*() {
      const account = yield* check({ status: 200, body: { login: "octocat" } })
      assert.deepStrictEqual(account, {
        verdict: { _tag: "Valid", account: "octocat" },
        asked: ["https://api.github.com/user Bearer ghp_secret"]
      })
      const repository = yield* check({ status: 200 }, {
        token: "t",
        repository: "git@github.example:octo/private.git",
        host: "github.example",
        apiUrl: "http://127.0.0.1:1/api/v3/"
      })
      assert.deepStrictEqual(repository.asked, ["http://127.0.0.1:1/api/v3/repos/octo/private Bearer t"])
      const wrong = yield* check({ status: 200 }, { token: "t", repository: "https://example.org/octo/private" })
      assert.deepStrictEqual([wrong.verdict._tag, wrong.asked], ["WrongAddress", []])
    }))

  it("understands each form of a repository's address", () => {
    for (
      const text of [
        "octo/private",
        " octo/private ",
        "octo/private.git",
        "octo/private/",
        "github.com/octo/private",
        "https://github.com/octo/private",
        "https://github.com/octo/private.git",
        "https://github.com/octo/private/",
        "https://www.github.com/octo/private",
        "HTTPS://GitHub.com/octo/private",
        "http://github.com/octo/private",
        "git@github.com:octo/private",
        "git@github.com:octo/private.git",
        "ssh://git@github.com/octo/private.git"
      ]
    ) {
      assert.deepStrictEqual(
        Option.getOrNull(GitHubCredential.parseRepository(text)),
        { owner: "octo", repo: "private" },
        text
      )
    }
    assert.deepStrictEqual(
      Option.getOrNull(GitHubCredential.parseRepository("octo/.github")),
      { owner: "octo", repo: ".github" }
    )
    for (
      const text of [
        "",
        "octo",
        "octo/",
        "/private",
        "octo/private/tree/main",
        "https://github.com/octo/private/issues",
        "https://token@github.com/octo/private",
        "https://gitlab.com/octo/private",
        "git@gitlab.com:octo/private.git",
        "-octo/private",
        "octo/..",
        "octo/.",
        "octo/.git",
        "octo/pri vate",
        "octo/private?x=1",
        "octo/private#readme",
        "octo/%2e%2e"
      ]
    ) assert.isTrue(Option.isNone(GitHubCredential.parseRepository(text)), text)
  })
})
