/**
 * Declares a GitHub token, and checks it with GitHub's REST API in a way that tells what is wrong apart.
 */
import * as Text from "../Text.ts"
import * as BoundedHttp from "../BoundedHttp.ts"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Input from "../Input.ts"
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

// A managed user's name ends in `_` and the short code of the enterprise.
const ownerPattern = /^[A-Za-z0-9][A-Za-z0-9-]{0,38}(?:_[A-Za-z0-9]{1,39})?$/
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
  if (trimmed.length > 2_048) return Option.none()
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
  /**
   * The repository that the token has to open, in any form of {@link parseRepository}. Without it any token that GitHub
   * knows will do.
   */
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
  text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined

/** Reads `Retry-After`: a number of seconds, or an HTTP date (RFC 9110 section 10.2.3). */
const retryAt = (text: string | undefined, nowMillis: number): DateTime.Utc | undefined => {
  const seconds = digits(text)
  if (seconds !== undefined) return DateTime.makeUnsafe(nowMillis + seconds * 1000)
  return text !== undefined && /^[A-Z][a-z]+, .{1,40} GMT$/.test(text)
    ? Option.getOrUndefined(DateTime.make(text))
    : undefined
}

/** Returns until when GitHub answers no request, if that is why it refused: its primary limit, or a secondary one. */
const rateLimit = (
  { headers, status }: HttpClientResponse.HttpClientResponse,
  message: string,
  nowMillis: number
): Option.Option<DateTime.Utc | null> => {
  if (status !== 403 && status !== 429) return Option.none()
  const until = retryAt(headers["retry-after"], nowMillis)
  if (until !== undefined) return Option.some(until)
  const reset = digits(headers["x-ratelimit-reset"])
  if (headers["x-ratelimit-remaining"] === "0") {
    return Option.some(reset === undefined ? null : DateTime.makeUnsafe(reset * 1000))
  }
  return status === 429 || /rate limit|abuse detection/i.test(message) ? Option.some(null) : Option.none()
}

/**
 * Matches how GitHub says that the token lacks a right. Any other 403 may be a proxy's, a suspended account's or an
 * allow list's, and says nothing against the token.
 */
const lacksRight =
  /not accessible by|must have|must be an? |insufficient|scope|grant|forbids access|permission|not authorized|protected by/i

const Body = Schema.Struct({
  login: Schema.optionalKey(Schema.String),
  full_name: Schema.optionalKey(Schema.String),
  message: Schema.optionalKey(Schema.String)
})
const decodeBody = Schema.decodeUnknownOption(Schema.fromJsonString(Body))

const account = "the account"

/** Says what to do if an organisation wants the token to be authorised for single sign-on, and where. */
const singleSignOn = (header: string | undefined): string | undefined => {
  if (header === undefined) return undefined
  const url = /^required; url=(https:\/\/[\x21-\x7e]{1,500})$/.exec(header)?.[1]
  return `The organisation asks for single sign-on; authorise the token for it${url === undefined ? "" : ` at ${url}`}`
}

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
  const { headers, status } = response
  const read = yield* Effect.result(
    BoundedHttp.readAtMost(response, BoundedHttp.maxAnswerBytes, () => "too long" as const)
  )
  if (Result.isFailure(read) && read.failure !== "too long") {
    return { _tag: "ProviderDown", detail: "GitHub's answer broke off" }
  }
  const body = Option.flatMap(Result.getSuccess(read), (bytes) => decodeBody(new TextDecoder().decode(bytes)))
  const { login, message = "" } = Option.getOrElse(body, () => Body.make({}))
  const limited = rateLimit(response, message, yield* Clock.currentTimeMillis)
  if (Option.isSome(limited)) return { _tag: "RateLimited", until: limited.value }
  if (status >= 200 && status < 300) {
    // A page of a proxy, of a portal or of GitHub itself is no answer of the API.
    return Option.isSome(body)
      ? { _tag: "Valid", account: login === undefined ? null : Text.toLine(login) }
      : { _tag: "WrongAddress", detail: "What answers at this address is not GitHub's API; check the API's address" }
  }
  // GitHub answers 404 for what a caller may not see, so that without a token nothing can be told about the address.
  if (!hasToken && (status === 401 || status === 403 || status === 404)) return { _tag: "NeedsToken" }
  switch (status) {
    case 401:
      if (Option.isNone(body)) break
      return { _tag: "Rejected", detail: "GitHub does not know this token: it is mistyped, expired or revoked" }
    case 403: {
      // The account of an app's token is the app, which /user tells nothing of.
      if (asked === account && /not accessible by integration/i.test(message)) return { _tag: "Valid", account: null }
      if (/repository access blocked/i.test(message)) {
        return { _tag: "WrongAddress", detail: `GitHub has blocked access to ${asked}` }
      }
      const single = singleSignOn(headers["x-github-sso"])
      if (single !== undefined) return { _tag: "Rejected", detail: single }
      return lacksRight.test(message)
        ? { _tag: "Rejected", detail: `The token may not read ${asked}` }
        : { _tag: "ProviderDown", detail: "GitHub, or what stands before it, answered 403 without a reason known here" }
    }
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
  Input.demand(
    "GitHubCredential.makeValidator",
    { apiUrl: Input.text, host: Input.text, repository: Input.text },
    options
  )
  const client = yield* HttpClient.HttpClient
  const { apiUrl, host, repository } = options

  return Effect.fnUntraced(function*(values): Effect.fn.Return<Verdict> {
    const token = Option.flatMap(values, (parts) => Option.fromUndefinedOr(parts.get(singlePart)))
    let path = "/user"
    let asked = account
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
 * Names the key under which {@link requirement} declares the token.
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
