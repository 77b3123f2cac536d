/**
 * Declares a GitHub token, and checks it with GitHub's REST API in a way that tells what is wrong apart.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { type Requirement, singlePart, type Validator, type Verdict } from "./CredentialRequirements.ts"

/**
 * Names a repository.
 *
 * @category models
 * @since 0.1.0
 */
export interface Repository {
  readonly owner: string
  readonly repo: string
}

const ownerPattern = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})$/
const repoPattern = /^[A-Za-z0-9._-]{1,100}$/

/**
 * Reads a repository's address: `owner/repo`, `https://github.com/owner/repo`, `git@github.com:owner/repo` or
 * `ssh://git@github.com/owner/repo`, each with or without `.git` and a slash at the end. `host` is that of another GitHub.
 * Returns none for anything else, so also for an address with a user and password, or of a page inside a repository.
 *
 * @category converting
 * @since 0.1.0
 */
export const parseRepository = (text: string, host = "github.com"): Option.Option<Repository> => {
  const trimmed = text.trim()
  const prefixes = [
    `https://${host}/`,
    `http://${host}/`,
    `https://www.${host}/`,
    `ssh://git@${host}/`,
    `git@${host}:`,
    `${host}/`
  ]
  const prefix = prefixes.find((candidate) => trimmed.toLowerCase().startsWith(candidate.toLowerCase())) ?? ""
  const [owner = "", repo = "", ...others] = trimmed.slice(prefix.length).replace(/\/$/, "").split("/")
  const name = repo.replace(/\.git$/, "")
  return others.length === 0 && ownerPattern.test(owner) && repoPattern.test(name) && name !== "." && name !== ".."
    ? Option.some({ owner, repo: name })
    : Option.none()
}

/**
 * Lists what a check is made of.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The repository that the token has to open, in any form of {@link parseRepository}. Without it any token that GitHub knows will do. */
  readonly repository?: string | undefined
  /** Where the API is. Default `https://api.github.com`. */
  readonly apiUrl?: string | undefined
  /** The host of the repository's address. Default `github.com`. */
  readonly host?: string | undefined
}

const defaultApiUrl = "https://api.github.com"

/**
 * Builds a request to GitHub's REST API. A token is sent in a header, which is redacted in logs and spans.
 *
 * @category operations
 * @since 0.1.0
 */
export const request = (
  path: string,
  token: Option.Option<Redacted.Redacted>,
  apiUrl: string = defaultApiUrl
): HttpClientRequest.HttpClientRequest => {
  const plain = HttpClientRequest.get(`${apiUrl.replace(/\/$/, "")}${path}`).pipe(
    HttpClientRequest.setHeaders({
      accept: "application/vnd.github+json",
      "user-agent": "sallyport",
      "x-github-api-version": "2022-11-28"
    })
  )
  return Option.isNone(token) ? plain : HttpClientRequest.bearerToken(plain, token.value)
}

const digits = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,12}$/.test(text) ? Number(text) : undefined

/** Returns until when GitHub answers no request, if that is why it refused: its primary limit, or a secondary one. */
const rateLimit = (
  { headers, status }: HttpClientResponse.HttpClientResponse,
  nowMillis: number
): Option.Option<DateTime.Utc | null> => {
  if (status !== 403 && status !== 429) return Option.none()
  const retryAfter = digits(headers["retry-after"])
  if (retryAfter !== undefined) return Option.some(DateTime.makeUnsafe(nowMillis + retryAfter * 1000))
  const reset = digits(headers["x-ratelimit-reset"])
  if (headers["x-ratelimit-remaining"] === "0") {
    return Option.some(reset === undefined ? null : DateTime.makeUnsafe(reset * 1000))
  }
  return status === 429 ? Option.some(null) : Option.none()
}

const Account = Schema.Struct({ login: Schema.String })
const decodeAccount = Schema.decodeUnknownOption(Account)

/**
 * Says what an answer of GitHub's REST API means for the token, if any, that it was asked with.
 *
 * @category operations
 * @since 0.1.0
 */
export const verdictOf = Effect.fnUntraced(function*(
  response: HttpClientResponse.HttpClientResponse,
  options: { readonly hasToken: boolean; readonly asked: string }
): Effect.fn.Return<Verdict> {
  const { asked, hasToken } = options
  const { status } = response
  const limited = rateLimit(response, yield* Clock.currentTimeMillis)
  if (Option.isSome(limited)) return { _tag: "RateLimited", until: limited.value }
  if (status >= 200 && status < 300) {
    const body = yield* Effect.option(response.json)
    const account = Option.flatMap(body, decodeAccount)
    return { _tag: "Valid", account: Option.match(account, { onNone: () => null, onSome: ({ login }) => login }) }
  }
  // GitHub answers 404 for what a caller may not see, so that without a token nothing can be told about the address.
  if (!hasToken && (status === 401 || status === 403 || status === 404)) return { _tag: "NeedsToken" }
  switch (status) {
    case 401:
      return { _tag: "Rejected", detail: "GitHub does not know this token: it is mistyped, expired or revoked" }
    case 403:
      return { _tag: "Rejected", detail: `The token may not read ${asked}` }
    case 404:
    case 410:
    case 451:
      return { _tag: "WrongAddress", detail: `There is no ${asked} that this token can see` }
  }
  return status >= 500
    ? { _tag: "ProviderDown", detail: `GitHub answered ${status}` }
    : { _tag: "ProviderDown", detail: `GitHub gave an answer that makes no sense here: ${status}` }
})

/**
 * Builds a validator. Each check is one request.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeValidator = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<Validator, never, HttpClient.HttpClient> {
  const client = yield* HttpClient.HttpClient
  const { apiUrl, host, repository } = options

  return Effect.fnUntraced(function*(values): Effect.fn.Return<Verdict> {
    const token = Option.flatMap(values, (parts) => Option.fromUndefinedOr(parts.get(singlePart)))
    let path = "/user"
    let asked = "the account"
    if (repository !== undefined) {
      const parsed = parseRepository(repository, host)
      if (Option.isNone(parsed)) {
        return {
          _tag: "WrongAddress",
          detail: `${JSON.stringify(repository.slice(0, 200))} is not a repository's address`
        }
      }
      path = `/repos/${parsed.value.owner}/${parsed.value.repo}`
      asked = `repository ${parsed.value.owner}/${parsed.value.repo}`
    } else if (Option.isNone(token)) return { _tag: "NeedsToken" }
    return yield* client.execute(request(path, token, apiUrl)).pipe(
      Effect.flatMap((response) => verdictOf(response, { hasToken: Option.isSome(token), asked })),
      Effect.scoped,
      Effect.catch(() => Effect.succeed<Verdict>({ _tag: "ProviderDown", detail: "GitHub cannot be reached" }))
    )
  })
})

/**
 * The key under which {@link requirement} declares the token.
 *
 * @category constants
 * @since 0.1.0
 */
export const key = "github.token"

/**
 * Declares the token, checked as {@link Options} say.
 *
 * @category constructors
 * @since 0.1.0
 */
export const requirement = (options?: Options): Effect.Effect<Requirement, never, HttpClient.HttpClient> =>
  Effect.map(makeValidator(options), (validator) => ({
    key,
    label: "GitHub token",
    helpUrl: "https://github.com/settings/personal-access-tokens",
    validator
  }))
