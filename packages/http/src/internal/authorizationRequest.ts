/**
 * What a client asks for at the authorization endpoint (RFC 6749 section 4.1.1), read and checked.
 */
import * as AccessScope from "@sallyport/core/access/AccessScope"
import type { AuthorizationServer, AuthorizationServerError } from "@sallyport/core/access/AuthorizationServer"
import { isLoopbackRedirect, type OAuthClient } from "@sallyport/core/access/OAuthClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

type Server = AuthorizationServer["Service"]

/** A resource that can be asked for, under its address. `key` is what a session is granted for. */
export interface Target {
  readonly key: string | null
  readonly uri: string
  readonly name: string
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
}

/** Lists the resources of a server whose root has an address. The first is the API itself. */
export const targets = (
  server: Server,
  base: string,
  name: string | undefined
): readonly [Target, ...Array<Target>] => {
  const issuer = `${base}${server.prefix}`
  return [
    { key: null, uri: issuer, name: name ?? issuer, scopes: server.scopes },
    ...server.resources.map(({ name, resource, scopes }) => {
      const uri = resource.startsWith("/") ? `${base}${resource}` : resource
      return { key: resource, uri, name: name ?? uri, scopes }
    })
  ]
}

/**
 * Returns the resource that a request names, and undefined if it names several or one that is none here. The API is meant
 * if it names none; its address may end with a slash.
 */
export const targetOf = (
  all: ReturnType<typeof targets>,
  named: ReadonlyArray<string>
): Target | undefined => {
  const [api] = all
  const [first, ...others] = new Set(named.filter((uri) => uri !== ""))
  if (first === undefined) return api
  return others.length > 0
    ? undefined
    : first === `${api.uri}/`
    ? api
    : all.find(({ uri }) => uri === first)
}

/** Describes a request that a person can be asked about. */
export interface AuthorizationRequest {
  readonly client: OAuthClient
  readonly redirectUri: string
  readonly state: string | undefined
  readonly codeChallenge: string
  readonly proofKeyThumbprint: string | null
  readonly target: Target
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
}

/** A fault of which only the person is told: there is no address yet that the answer could be sent to. */
export class NotRedirected extends Schema.TaggedError<NotRedirected>()("NotRedirected", {
  message: Schema.String
}) {}

/** An answer other than a code, of which the client is told (RFC 6749 section 4.1.2.1). */
export class Redirected extends Schema.TaggedError<Redirected>()("Redirected", {
  redirectUri: Schema.String,
  /** Whether the browser is sent on by itself; else the person is told, and may go on. */
  isTrusted: Schema.Boolean,
  state: Schema.UndefinedOr(Schema.String),
  error: Schema.Literals([
    "invalid_request",
    "unsupported_response_type",
    "invalid_scope",
    "invalid_target",
    "access_denied"
  ]),
  description: Schema.String
}) {}

/**
 * Tells whether a browser may be sent to a client without the person's say. Anyone can write a document that names a page of
 * theirs, and so make a link to this server one to that page (RFC 9700 section 4.11.2). A program that was opened here, and what
 * the host has registered, is no such page.
 */
export const isTrusted = (client: OAuthClient, redirectUri: string): boolean =>
  !/^https?:/.test(client.id) || isLoopbackRedirect(redirectUri)

const thumbprint = /^[A-Za-z0-9_-]{43}$/
const single = [
  "response_type",
  "client_id",
  "redirect_uri",
  "state",
  "scope",
  "code_challenge",
  "code_challenge_method",
  "dpop_jkt"
] as const

const decodeScopes = Schema.decodeUnknownOption(Schema.Array(AccessScope.AccessScope))

/**
 * Reads a parameter `scope`: none if it is malformed, and undefined if it names no scope. `offline_access` is none: it asks
 * for a refresh token, which every client gets.
 */
export const readScopes = (
  text: string | undefined
): Option.Option<ReadonlyArray<AccessScope.AccessScope> | undefined> => {
  const asked = (text ?? "").split(" ").filter((scope) => scope !== "" && scope !== "offline_access")
  return asked.length === 0 ? Option.some(undefined) : decodeScopes(asked)
}

/** Reads a request. A parameter without a value counts as absent, and one that is not known is passed over. */
export const read = Effect.fnUntraced(function*(
  server: Server,
  all: ReturnType<typeof targets>,
  query: URLSearchParams,
  by: { readonly signedIn: boolean }
): Effect.fn.Return<AuthorizationRequest, NotRedirected | Redirected | AuthorizationServerError> {
  const valueOf = (name: (typeof single)[number]) => query.get(name) || undefined
  for (const name of ["client_id", "redirect_uri"] as const) {
    if (query.getAll(name).length !== 1 || valueOf(name) === undefined) {
      return yield* new NotRedirected({ message: `The request needs one ${name}` })
    }
  }
  const client = yield* server.client(valueOf("client_id") ?? "", by)
  const redirectUri = valueOf("redirect_uri") ?? ""
  if (!server.mayRedirect(client, redirectUri)) {
    return yield* new NotRedirected({ message: `${client.name} has not registered the address to go back to` })
  }
  const state = valueOf("state")
  const refuse = (error: Redirected["error"], description: string) =>
    new Redirected({
      redirectUri,
      isTrusted: by.signedIn && isTrusted(client, redirectUri),
      state,
      error,
      description
    })

  const repeated = single.find((name) => query.getAll(name).length > 1)
  if (repeated !== undefined) return yield* refuse("invalid_request", `${repeated} must be given once`)
  const responseType = valueOf("response_type")
  if (responseType === undefined) return yield* refuse("invalid_request", "response_type must be code")
  if (responseType !== "code") return yield* refuse("unsupported_response_type", "response_type must be code")
  const codeChallenge = valueOf("code_challenge")
  if (codeChallenge === undefined || !thumbprint.test(codeChallenge) || valueOf("code_challenge_method") !== "S256") {
    return yield* refuse("invalid_request", "code_challenge must be 43 characters of base64url, with the method S256")
  }
  const proofKeyThumbprint = valueOf("dpop_jkt") ?? null
  if (proofKeyThumbprint !== null && !thumbprint.test(proofKeyThumbprint)) {
    return yield* refuse("invalid_request", "dpop_jkt must be a JWK thumbprint")
  }
  const target = targetOf(all, query.getAll("resource"))
  if (target === undefined) {
    return yield* refuse("invalid_target", "resource must be one that this server has tokens for")
  }
  const scopes = Option.map(readScopes(valueOf("scope")), (scopes = target.scopes) => scopes)
  if (Option.isNone(scopes) || AccessScope.missing(target.scopes, scopes.value).length > 0) {
    return yield* refuse("invalid_scope", `the resource has no other scopes than ${target.scopes.join(" ")}`)
  }
  return {
    client,
    redirectUri,
    state,
    codeChallenge,
    proofKeyThumbprint,
    target,
    scopes: [...new Set(scopes.value)]
  }
})

/** Returns where an answer goes. The redirect URI keeps every character that it has. */
export const answerUri = (
  redirectUri: string,
  parameters: Readonly<Record<string, string | undefined>>
): string => {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) query.set(name, value)
  return `${redirectUri}${redirectUri.includes("?") ? "&" : "?"}${query.toString()}`
}
