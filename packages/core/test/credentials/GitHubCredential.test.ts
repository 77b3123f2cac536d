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
        new Response(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body ?? {}), {
          status: answer.status,
          headers: answer.headers ?? {}
        })
      ))
  })
  const { token, ...given } = options
  const validator = yield* GitHubCredential.makeValidator(given).pipe(
    Effect.provideService(HttpClient.HttpClient, client)
  )
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
      const message = "Resource not accessible by personal access token"
      assert.strictEqual(yield* tag({ status: 403, body: { message } }), "Rejected")
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

  it.effect("SCOPE-09 SCOPE-11 C-91: says until when a limit lasts, in each way in which GitHub tells it", () =>
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
      // RFC 9110 lets it be a date.
      const date = { "retry-after": "Fri, 15 Jan 2027 08:00:00 GMT" }
      assert.deepStrictEqual(yield* limited(403, date), until(1_800_000_000_000))
      assert.deepStrictEqual(yield* limited(429, date), until(1_800_000_000_000))
      for (const retryAfter of ["soon", "-1", "1e9", "9".repeat(400), "Fri, 99 Jan 2027 08:00:00 GMT"]) {
        assert.deepStrictEqual(yield* limited(429, { "retry-after": retryAfter }), until(null), retryAfter)
      }
    }))

  it.effect("SCOPE-09 SCOPE-11 C-90: tells a limit by GitHub's words, and refuses a token for what GitHub says against it only", () =>
    Effect.gen(function*() {
      const repository = "acme/notes"
      const verdict = (status: number, body: unknown, headers: Record<string, string> = {}, onRepository = true) =>
        Effect.map(
          check({ status, body, headers }, { token: "ghp_secret", ...(onRepository ? { repository } : {}) }),
          ({ verdict }) => verdict
        )
      const left = { "x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1800000000" }
      for (
        const message of [
          "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
          "You have triggered an abuse detection mechanism. Please retry your request again later.",
          "API rate limit exceeded for user ID 1."
        ]
      ) assert.deepStrictEqual(yield* verdict(403, { message }, left), { _tag: "RateLimited", until: null }, message)
      for (
        const message of [
          "Resource not accessible by personal access token",
          "Resource not accessible by integration",
          "Resource protected by organization SAML enforcement. You must grant your token access to this organization.",
          "`acme` forbids access via a personal access token (classic). Please use a GitHub App.",
          "The 'acme' organization forbids access via a fine-grained personal access tokens if the token's lifetime is "
          + "greater than 366 days.",
          "Must have admin rights to Repository."
        ]
      ) assert.strictEqual((yield* verdict(403, { message }, left))._tag, "Rejected", message)
      for (
        const body of [
          {},
          { message: "Forbidden" },
          {
            message: "Request forbidden by administrative rules. Please make sure your request has a User-Agent header."
          },
          {
            message:
              "Although you appear to have the correct authorization credentials, the `acme` organization has an IP "
              + "allow list enabled, and your IP address is not permitted to access this resource."
          },
          "<html>Access denied by policy</html>",
          ""
        ]
      ) assert.strictEqual((yield* verdict(403, body, left))._tag, "ProviderDown", JSON.stringify(body))
      assert.strictEqual((yield* verdict(401, { message: "Bad credentials" }))._tag, "Rejected")
      for (const status of [401, 407]) {
        assert.strictEqual((yield* verdict(status, "<html>Sign in to the proxy</html>"))._tag, "ProviderDown")
      }
      assert.strictEqual((yield* verdict(403, { message: "Repository access blocked" }))._tag, "WrongAddress")
      const address = "https://github.com/orgs/acme/sso?authorization_request=AZ"
      const single = yield* verdict(403, { message: "Forbidden" }, { "x-github-sso": `required; url=${address}` })
      assert.deepStrictEqual(single, {
        _tag: "Rejected",
        detail: `The organisation asks for single sign-on; authorise the token for it at ${address}`
      })
      // The token of an app has no account of its own.
      assert.deepStrictEqual(yield* verdict(403, { message: "Resource not accessible by integration" }, {}, false), {
        _tag: "Valid",
        account: null
      })
    }))

  it.effect("SCOPE-09 C-92: takes a page for a wrong address, not for GitHub", () =>
    Effect.gen(function*() {
      for (const body of ["<!DOCTYPE html><title>Sign in</title>", "", "[]", "null", `"ok"`, "{"]) {
        const { verdict } = yield* check({ status: 200, body, headers: { "content-type": "text/html" } })
        assert.strictEqual(verdict._tag, "WrongAddress", body)
      }
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

  it("C-93: understands the name of a managed user", () => {
    for (const owner of ["octocat_acme", "octo-cat_acme", "a_b"]) {
      assert.deepStrictEqual(Option.getOrNull(GitHubCredential.parseRepository(`${owner}/notes`)), {
        owner,
        repo: "notes"
      })
    }
    for (const owner of ["_acme", "octocat_", "a_b_c", "a__b", "é", "a_-"]) {
      assert.isTrue(Option.isNone(GitHubCredential.parseRepository(`${owner}/notes`)), owner)
    }
  })

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
