/**
 * What a client of the authorization endpoint is, and which redirect URIs are its own.
 *
 * A client is registered by the host, or describes itself in a document whose HTTPS address is its `client_id`
 * (draft-ietf-oauth-client-id-metadata-document). It is public: it has no secret.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Text from "../Text.ts"

/**
 * Describes a client.
 *
 * @category models
 * @since 0.1.0
 */
export interface OAuthClient {
  readonly id: string
  /** What it calls itself: a line of text. */
  readonly name: string
  readonly redirectUris: ReadonlyArray<string>
  /** Whether it proves a key whenever it asks for tokens, and gets none without (RFC 9449 section 5.2). Default false. */
  readonly alwaysProves?: boolean | undefined
}

// What a URI may be written with. A URL parser would drop or change other characters, and so compare something else.
const printable = /^[\x21-\x5b\x5d-\x7e]{1,2048}$/
const loopback = /^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)(?::([1-9]\d{0,4}))?(?:([/?][^#]*))?$/
/** Schemes that lead to no program of the client's, whatever a host allows. */
const forbidden = new Set(["javascript", "data", "file", "vbscript", "blob", "about", "view-source", "ws", "wss"])

/** Takes a loopback redirect URI apart, and returns nothing for any other. */
const loopbackParts = (uri: string): { readonly host: string; readonly rest: string } | undefined => {
  const [, host, port, rest] = loopback.exec(uri) ?? []
  return host === undefined || Number(port ?? 80) > 65_535 ? undefined : { host, rest: rest ?? "/" }
}

/**
 * Tells whether a redirect URI leads to this machine only, where any program can listen.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isLoopbackRedirect = (uri: string): boolean => loopbackParts(uri) !== undefined

/**
 * Tells whether a URI may be redirected to at all: HTTPS, HTTP on a loopback address (RFC 8252 section 7.3), or a private-use
 * scheme. That is a reversed domain name, which has a period (section 7.1), or one that the host names in `schemes`.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isRedirectUri = (uri: string, schemes: ReadonlyArray<string> = []): boolean => {
  if (!printable.test(uri) || uri.includes("#")) return false
  if (/^http:/i.test(uri)) return isLoopbackRedirect(uri)
  const url = URL.parse(uri)
  if (url === null || url.username !== "" || url.password !== "") return false
  if (url.protocol === "https:") return /^https:\/\/[^/]/.test(uri)
  const scheme = url.protocol.slice(0, -1)
  return !forbidden.has(scheme) && (scheme.includes(".") || schemes.includes(scheme))
}

/**
 * Tells whether a request names a redirect URI that is registered: the same characters, but for the port of a loopback address,
 * which is the program's free choice (RFC 8252 section 7.3). There an empty path is `/`. Hosts never stand for each other.
 *
 * @category predicates
 * @since 0.1.0
 */
export const matchesRedirectUri = (registered: string, asked: string): boolean => {
  if (registered === asked) return true
  const own = loopbackParts(registered)
  const other = loopbackParts(asked)
  return own !== undefined && other !== undefined && own.host === other.host && own.rest === other.rest
}

/**
 * Tells whether a `client_id` is the address of a client's document: an HTTPS URL with a path, in the one form that a URL
 * parser writes, without a fragment, user or password. With `loopback`, plain HTTP to this machine is one, too.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isDocumentUrl = (id: string, options?: { readonly loopback?: boolean | undefined }): boolean => {
  const url = printable.test(id) ? URL.parse(id) : null
  // The parser resolves `.` and `..`, also `%2e`, and would write another text than this.
  if (url === null || url.href !== id || id.includes("#") || url.username !== "" || url.password !== "") return false
  const isLocal = options?.loopback === true && isLoopbackRedirect(id)
  return (url.protocol === "https:" || isLocal) && url.pathname !== "/"
}

const Document = Schema.Struct({
  client_id: Schema.String,
  client_name: Schema.String,
  redirect_uris: Schema.Array(Schema.String.check(Schema.isMaxLength(2048))).check(
    Schema.isMinLength(1),
    Schema.isMaxLength(32)
  ),
  token_endpoint_auth_method: Schema.optionalKey(Schema.Literal("none")),
  dpop_bound_access_tokens: Schema.optionalKey(Schema.Boolean)
})
const decodeDocument = Schema.decodeUnknownOption(Document)

const isRecord = Schema.is(Schema.Record(Schema.String, Schema.Unknown))

/**
 * Reads the document of a client, and returns what is wrong with one that cannot be used. The `client_id` in it must be its
 * address, character by character. It must name no secret, and no way for the client to authenticate: there is none here.
 *
 * @category converting
 * @since 0.1.0
 */
export const readDocument = (id: string, document: unknown): OAuthClient | string => {
  if (!isRecord(document)) return "it is no JSON object"
  if (document.client_id !== id) return "its client_id is not its address"
  if (Object.keys(document).some((key) => key.startsWith("client_secret"))) return "it has a secret in it"
  const decoded = decodeDocument(document)
  if (decoded._tag === "None") {
    return "it needs a client_name and redirect_uris, the token_endpoint_auth_method can only be none, and " +
      "dpop_bound_access_tokens true or false"
  }
  const { client_name, dpop_bound_access_tokens: alwaysProves = false, redirect_uris: redirectUris } = decoded.value
  const name = Text.toLine(client_name, 64)
  return name === null ? "its client_name has no letters" : { id, name, redirectUris, alwaysProves }
}
