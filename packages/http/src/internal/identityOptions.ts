/**
 * The settings of identities from elsewhere.
 */
import { type Descriptor, isLoopback } from "@sallyport/core/access/AuthPolicy"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { issuerPrefix } from "@sallyport/core/access/Session"
import * as Input from "@sallyport/core/Input"
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import * as Text from "@sallyport/core/Text"
import type * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { IpNetwork } from "effect/net/IpNetwork"
import * as Schema from "effect/Schema"
import type { IdentityNotAdmitted, IdentityUnavailable } from "./identityErrors.ts"

/**
 * Reports options of identity providers that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidIdentityProvidersOptions extends Schema.TaggedError<InvalidIdentityProvidersOptions>()(
  "InvalidIdentityProvidersOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of identity providers cannot work: ${this.problem}`
  }
}

/**
 * Lists the algorithms of signatures that are taken (RFC 7518, RFC 8037, RFC 9864). All are asymmetric: an issuer's public
 * key can sign nothing.
 *
 * @category constants
 * @since 0.1.0
 */
export const algorithms = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "EdDSA",
  "Ed25519"
] as const
/**
 * @see {@link algorithms}
 *
 * @category models
 * @since 0.1.0
 */
export type Algorithm = typeof algorithms[number]

/**
 * Describes an issuer of ID tokens that the host believes (OpenID Connect Core 1.0 section 2).
 *
 * @category models
 * @since 0.1.0
 */
export interface Issuer {
  /** Its address, as it stands in `iss`, character by character: https, or http on this machine. */
  readonly issuer: string
  /**
   * The audience of its tokens: the ids that programs have at the issuer, or that of this server. A token that has another
   * audience as well is refused.
   */
  readonly audiences: ReadonlyArray<string>
  /** The programs that a token may have been issued to (`azp`), if it says so. Default the audiences. */
  readonly authorizedParties?: ReadonlyArray<string> | undefined
  /** The algorithms that it signs with. Default all of {@link algorithms}. */
  readonly algorithms?: ReadonlyArray<Algorithm> | undefined
  /** Where its keys are. Default the `jwks_uri` of its discovery document. */
  readonly jwksUri?: string | undefined
  /**
   * The header in which a proxy before the server sends the issuer's signed token, such as `cf-access-jwt-assertion`. It is
   * taken from there as often as the proxy sends it, and not as a `subject_token`. Default none.
   */
  readonly header?: string | undefined
  /**
   * Whether a token is good once: by its `jti`, or as a whole if it has none. Default true. A token in a `header` is good
   * until it expires in any case.
   */
  readonly singleUse?: boolean | undefined
}

/**
 * Describes a header in which a proxy says who its user is, such as `x-forwarded-user` or `tailscale-user-login`. The proxy
 * has to take the header away from what others send.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProxyHeader {
  readonly header: string
  /** The addresses of the proxy. A header that comes on a connection from elsewhere counts for nothing. */
  readonly from: ReadonlyArray<IpNetwork>
  /** What the proxy is called as an issuer of identities. Default the name of the header. */
  readonly issuer?: string | undefined
}

/**
 * Describes who someone is, as an issuer says.
 *
 * @category models
 * @since 0.1.0
 */
export interface Identity {
  /** The issuer, as the host named it. A subject means nothing without it. */
  readonly issuer: string
  /** The `sub` of the token, or what stands in the header. */
  readonly subject: string
  /** All that the token says; nothing for a header. */
  readonly claims: Readonly<Record<string, unknown>>
}

/**
 * Describes what an identity is let in as.
 *
 * @category models
 * @since 0.1.0
 */
export interface Admission {
  readonly subject: string
  /**
   * The scopes that it may have, which is what it gets unless it asks for fewer. Default all but those that let others in or
   * decide (`AccessScope.widening`): those it gets only if they stand here.
   */
  readonly scopes?: ReadonlyArray<AccessScope> | undefined
  /** A name for its session. */
  readonly label?: string | undefined
  /** How long its session goes on without being used. Default as other sessions do. */
  readonly lifetime?: Duration.Input | undefined
  /** The age past which no use keeps its session. Default the option `sessionLifetime`. */
  readonly absoluteLifetime?: Duration.Input | undefined
}

/**
 * Decides about an identity that was checked: as whom it is let in, or by failing that it is not.
 *
 * @category models
 * @since 0.1.0
 */
export type Admit<R = never> = (
  identity: Identity
) => Effect.Effect<Admission, IdentityNotAdmitted | IdentityUnavailable, R>

/**
 * Lists the options of identity providers.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<R = never> {
  /** Decides about each identity. There is no default. */
  readonly admit: Admit<R>
  /** The issuers of ID tokens. Default none. */
  readonly issuers?: ReadonlyArray<Issuer> | undefined
  /** The headers of proxies. Default none. */
  readonly proxies?: ReadonlyArray<ProxyHeader> | undefined
  /** How far an issuer's clock may differ from ours, at most 5 minutes. Default 1 minute. */
  readonly clockSkew?: Duration.Input | undefined
  /** How old a token may be, whenever it expires. Default 1 day. */
  readonly maxAge?: Duration.Input | undefined
  /** The least time between two reads of an issuer's keys, for tokens with keys that are not known. Default 30 seconds. */
  readonly rereadInterval?: Duration.Input | undefined
  /** How long keys are kept at most, if the issuer does not say less. Default 1 hour. */
  readonly keysLifetime?: Duration.Input | undefined
  /** How old a session may get that an identity was exchanged for: then its issuer is asked again. Default 12 hours. */
  readonly sessionLifetime?: Duration.Input | undefined
}

/** Holds the settings of an issuer. */
export interface IssuerSettings {
  readonly issuer: string
  readonly audiences: ReadonlyArray<string>
  readonly authorizedParties: ReadonlyArray<string>
  readonly algorithms: ReadonlyArray<Algorithm>
  readonly jwksUri: string | undefined
  readonly header: string | undefined
  readonly singleUse: boolean
}

/** Holds the settings. */
export interface Settings {
  readonly issuers: ReadonlyArray<IssuerSettings>
  readonly proxies: ReadonlyArray<Required<ProxyHeader> & { readonly issuer: string }>
  readonly skewMillis: number
  readonly maxAgeMillis: number
  readonly rereadMillis: number
  readonly keysLifetimeMillis: number
  readonly sessionMillis: number
}

const invalid = (problem: string) => new InvalidIdentityProvidersOptions({ problem })

/** Tells whether text is an https address, or on this machine perhaps an http one, without user and fragment. */
export const isSecureUrl = (text: string, options: { readonly loopback: boolean }): boolean => {
  const url = URL.parse(text)
  return url !== null && url.username === "" && url.password === "" && !text.includes("#") &&
    (url.protocol === "https:" || (options.loopback && url.protocol === "http:" && isLoopback(url.hostname)))
}

/** What a host without a compiler may have wrong. What the options mean is looked at after this. */
const optionRules: Readonly<Record<keyof Options, Input.Rule>> = {
  admit: Input.callable,
  issuers: Input.listOf<Issuer>({
    issuer: Input.required(Input.text),
    audiences: Input.required(Input.texts),
    authorizedParties: Input.texts,
    algorithms: Input.texts,
    jwksUri: Input.text,
    header: Input.text,
    singleUse: Input.flag
  }),
  proxies: Input.listOf<ProxyHeader>({
    header: Input.required(Input.text),
    from: Input.required({ is: Array.isArray, expected: "a list of networks" }),
    issuer: Input.text
  }),
  clockSkew: Input.any,
  maxAge: Input.any,
  rereadInterval: Input.any,
  keysLifetime: Input.any,
  sessionLifetime: Input.any
}

const maxNameLength = 255 - issuerPrefix.length
const isName = (text: string) => Text.isKey(text, maxNameLength) && Text.isLine(text, maxNameLength)
const headerName = /^[a-z0-9-]{1,64}$/
/** What proves something by itself, or is the browser's own, is no name of a person. */
const ownHeaders = ["authorization", "cookie", "dpop", "host", "origin"]

/** Reads issuers from entries such as `https://accounts.example=client-id`, with one entry for each of their audiences. */
const readIssuers = (written: unknown): ReadonlyArray<Issuer> | undefined => {
  const issuers = new Map<string, Issuer>()
  for (const entry of String(written).split(",")) {
    const [, issuer, audience] = /^\s*([^=\s]+)=(\S+)\s*$/.exec(entry) ?? []
    if (issuer === undefined || audience === undefined) return undefined
    issuers.set(issuer, { issuer, audiences: [...issuers.get(issuer)?.audiences ?? [], audience] })
  }
  return [...issuers.values()]
}

const problemOfIssuer = (one: IssuerSettings): string | undefined =>
  !isName(one.issuer) || !isSecureUrl(one.issuer, { loopback: true }) || one.issuer.includes("?")
    ? "be an https address of at most 248 characters without query, or an http one of this machine"
    : one.audiences.length === 0 || !one.audiences.every((audience) => Text.isKey(audience))
    ? "have audiences"
    : one.algorithms.length === 0 || !one.algorithms.every((algorithm) => algorithms.includes(algorithm))
    ? `have algorithms of ${algorithms.join(", ")}`
    : one.jwksUri !== undefined && !isSecureUrl(one.jwksUri, { loopback: true })
    ? "have an https address as jwksUri, or an http one of this machine"
    : undefined

/** Decodes options that stand in code, under a policy. */
export const settings = <R>(
  options: Options<R>,
  policy: Descriptor
): Effect.Effect<Settings, InvalidIdentityProvidersOptions> =>
  ServiceOptions.decodeObject(options, {
    invalid,
    decode: (read: ServiceOptions.Reader<Options<R>, InvalidIdentityProvidersOptions>) =>
      Input.callable.is(options?.admit)
        ? decode(read, options, policy)
        : read.refuse("admit must be a function that decides about an identity"),
    others: Object.keys(optionRules)
  })

/** Decodes options that stand in the configuration, under a policy. */
export const settingsFromConfig = (
  policy: Descriptor
): Effect.Effect<Settings, Config.ConfigError | InvalidIdentityProvidersOptions> =>
  Effect.gen(function*() {
    const read = ServiceOptions.fromConfig<Options, InvalidIdentityProvidersOptions>("SALLYPORT_IDENTITY", invalid)
    // Proxies stand in code alone.
    const issuers = yield* read.required(
      "issuers",
      "issuers with their audiences, such as https://accounts.example=client-id, separated by commas",
      readIssuers
    )
    return yield* decode(read, { issuers }, policy)
  })

const decode = <R, E>(
  read: ServiceOptions.Reader<Options<R>, E>,
  options: Partial<Options<R>>,
  policy: Descriptor
): Effect.Effect<Settings, E> =>
  Effect.gen(function*() {
    const misuse = Input.misuse(optionRules, options)
    if (misuse !== undefined) return yield* read.refuse(misuse)
    if (policy.kind === "unsafe-no-auth") {
      return yield* read.refuse("under the policy unsafe-no-auth everyone is let in; choose another, or leave them out")
    }
    const issuers = (options.issuers ?? []).map((one): IssuerSettings => ({
      issuer: one.issuer,
      audiences: one.audiences,
      authorizedParties: one.authorizedParties ?? one.audiences,
      algorithms: one.algorithms ?? algorithms,
      jwksUri: one.jwksUri,
      header: one.header?.toLowerCase(),
      singleUse: one.singleUse ?? true
    }))
    const proxies = (options.proxies ?? []).map((one) => {
      const header = one.header.toLowerCase()
      return { header, from: one.from, issuer: one.issuer ?? header }
    })
    if (issuers.length === 0 && proxies.length === 0) {
      return yield* read.refuse(`${read.name("issuers")} or ${read.name("proxies")} must name one at least`)
    }
    for (const one of issuers) {
      const problem = problemOfIssuer(one)
      if (problem !== undefined) {
        return yield* read.refuse(
          `each of ${read.name("issuers")} must ${problem}; ${JSON.stringify(one.issuer)} does not`
        )
      }
    }
    for (const { from, header, issuer } of proxies) {
      if (from.length === 0 || !isName(issuer) || URL.canParse(issuer)) {
        return yield* read.refuse(
          `each of proxies must have addresses in from, and a name that is no address; ${
            JSON.stringify(header)
          } has not`
        )
      }
    }
    const headers = [...issuers.flatMap(({ header }) => header ?? []), ...proxies.map(({ header }) => header)]
    const wrong = headers.find((header) => !headerName.test(header) || ownHeaders.includes(header))
    if (wrong !== undefined) {
      return yield* read.refuse(`a header must be one that the proxy writes; ${JSON.stringify(wrong)} is not`)
    }
    for (const names of [headers, [...issuers, ...proxies].map(({ issuer }) => issuer)]) {
      const twice = names.find((name, index) => names.indexOf(name) !== index)
      if (twice !== undefined) {
        return yield* read.refuse(`each issuer and each header must stand once; ${JSON.stringify(twice)} stands twice`)
      }
    }
    const skewMillis = yield* read.millis("clockSkew", "1 minute", 0)
    if (skewMillis > 300_000) return yield* read.refuse(`${read.name("clockSkew")} must be at most 5 minutes`)
    return {
      issuers,
      proxies,
      skewMillis,
      maxAgeMillis: yield* read.millis("maxAge", "1 day"),
      rereadMillis: yield* read.millis("rereadInterval", "30 seconds", 1_000),
      keysLifetimeMillis: yield* read.millis("keysLifetime", "1 hour", 1_000),
      sessionMillis: yield* read.millis("sessionLifetime", "12 hours")
    }
  })
