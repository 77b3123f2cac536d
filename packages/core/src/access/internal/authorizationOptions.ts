/**
 * The settings of the authorization server.
 */
import type * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Input from "../../Input.ts"
import * as ServiceOptions from "../../ServiceOptions.ts"
import * as Text from "../../Text.ts"
import * as AccessScope from "../AccessScope.ts"
import { type Descriptor, isLoopback } from "../AuthPolicy.ts"
import { isRedirectUri, type OAuthClient } from "../OAuthClient.ts"
import { defaultMaxLetIn } from "./bootstrapOptions.ts"

/**
 * Reports options of the authorization server that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidAuthorizationServerOptions extends Schema.TaggedError<InvalidAuthorizationServerOptions>()(
  "InvalidAuthorizationServerOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the authorization server cannot work: ${this.problem}`
  }
}

/**
 * Describes a resource that tokens are issued for, beside the API: it takes these tokens and no others.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resource {
  /** A path of this server, such as `/mcp`, or the absolute URL of a resource elsewhere. */
  readonly resource: string
  /** What can be consented to for it, which is what a client gets that asks for no scope. */
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
  /** What people call it. Default the resource. */
  readonly name?: string | undefined
  /**
   * How a resource elsewhere asks about its tokens (RFC 7662): with HTTP Basic. The secret is a random text of at least 32
   * characters, so that it cannot be guessed.
   */
  readonly introspection?: { readonly id: string; readonly secret: Redacted.Redacted } | undefined
}

/**
 * Lists the options of the authorization server; each has a default.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The path below which the endpoints are mounted, as `Sallyport.layer` has it. Default none. */
  readonly prefix?: `/${string}` | undefined
  /** The resources beside the API. Default none. */
  readonly resources?: ReadonlyArray<Resource> | undefined
  /** What a client can be granted of the API itself. Default all scopes but those that let others in. */
  readonly scopes?: ReadonlyArray<AccessScope.AccessScope> | undefined
  /** Clients that the host knows. Their ids are no addresses. Default none. */
  readonly clients?: ReadonlyArray<OAuthClient> | undefined
  /** Private-use schemes of redirect URIs without a period that clients may use, such as `vscode`. Default none. */
  readonly redirectSchemes?: ReadonlyArray<string> | undefined
  /** How long a code can be exchanged, at most 10 minutes. Default 60 seconds. */
  readonly codeLifetime?: Duration.Input | undefined
  /**
   * How many live sessions one session can have let in, by links and by consents, with those that can still come of both.
   * Default 1,000. It is the option of `BootstrapCredentialService`, whose variable holds for both.
   */
  readonly maxLetInPerSession?: number | undefined
}

/** Holds the settings. */
export interface Settings {
  readonly prefix: string
  readonly resources: ReadonlyArray<Resource>
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
  readonly clients: ReadonlyArray<OAuthClient>
  readonly redirectSchemes: ReadonlyArray<string>
  readonly codeMillis: number
  readonly maxLetIn: number
}

/** What a host without a compiler may have wrong. What the options mean is looked at after this. */
const optionRules: Readonly<Record<keyof Options, Input.Rule>> = {
  prefix: Input.rule(Schema.String, "a path"),
  resources: Input.listOf<Resource>({
    resource: Input.required(Input.text),
    scopes: Input.required(Input.texts),
    name: Input.text,
    introspection: {
      is: (of) =>
        Predicate.hasProperty(of, "id") && Input.text.is(of.id) && Predicate.hasProperty(of, "secret") &&
        Input.redacted.is(of.secret),
      expected: "{ id, secret }"
    }
  }),
  scopes: Input.texts,
  clients: Input.listOf<OAuthClient>({
    id: Input.required(Input.text),
    name: Input.required(Input.text),
    redirectUris: Input.required(Input.texts),
    alwaysProves: Input.flag
  }),
  redirectSchemes: Input.texts,
  codeLifetime: Input.any,
  maxLetInPerSession: Input.any
}

const isResource = ({ introspection, resource }: Resource): boolean => {
  if (resource.startsWith("/")) {
    return introspection === undefined && resource.length > 1 && URL.parse(resource, "http://a")?.pathname === resource
  }
  const url = URL.parse(resource)
  const isGuessable = introspection !== undefined && Redacted.value(introspection.secret).length < 32
  return url !== null && isSecure(url) && !resource.includes("#") && !isGuessable
}

const invalid = (problem: string) => new InvalidAuthorizationServerOptions({ problem })

/** Reads redirect schemes that are separated by commas. */
const readSchemes = (written: unknown): ReadonlyArray<string> | undefined => {
  const schemes = String(written).split(",").map((scheme) => scheme.trim())
  return schemes.every((scheme) => /^[a-z][a-z0-9+.-]*$/.test(scheme)) ? schemes : undefined
}

/** Reads clients from entries such as `workbench=http://127.0.0.1/callback`, with one entry for each of their redirect URIs. */
const readClients = (written: unknown): ReadonlyArray<OAuthClient> | undefined => {
  const clients = new Map<string, OAuthClient>()
  for (const entry of String(written).split(",")) {
    const [, id, uri] = /^\s*([^=\s]+)=(\S+)\s*$/.exec(entry) ?? []
    if (id === undefined || uri === undefined) return undefined
    clients.set(id, { id, name: id, redirectUris: [...clients.get(id)?.redirectUris ?? [], uri] })
  }
  return [...clients.values()]
}

/** Decodes options that stand in code, under a policy. */
export const settings = (
  options: Options,
  policy: Descriptor,
  vocabulary: ReadonlyArray<AccessScope.AccessScope>
): Effect.Effect<Settings, InvalidAuthorizationServerOptions> =>
  ServiceOptions.decodeObject(options, {
    invalid,
    decode: (read: ServiceOptions.Reader<Options, InvalidAuthorizationServerOptions>) =>
      decode(read, options ?? {}, policy, vocabulary, read.count("maxLetInPerSession", defaultMaxLetIn)),
    others: Object.keys(optionRules)
  })

/** Decodes options that stand in the configuration, under a policy. Resources and the prefix stand in code alone. */
export const settingsFromConfig = (
  policy: Descriptor,
  vocabulary: ReadonlyArray<AccessScope.AccessScope>
): Effect.Effect<Settings, Config.ConfigError | InvalidAuthorizationServerOptions> =>
  decode(
    ServiceOptions.fromConfig<Options, InvalidAuthorizationServerOptions>("SALLYPORT_AUTHORIZATION", invalid),
    {},
    policy,
    vocabulary,
    // The variable of the links: a session lets in by both.
    ServiceOptions.fromConfig<Options, InvalidAuthorizationServerOptions>("SALLYPORT_PAIRING", invalid)
      .count("maxLetInPerSession", defaultMaxLetIn)
  )

/** Decodes options that stand in code, and those that do not by `read`. */
const decode = <E>(
  read: ServiceOptions.Reader<Options, E>,
  options: Options,
  policy: Descriptor,
  vocabulary: ReadonlyArray<AccessScope.AccessScope>,
  maxLetIn: Effect.Effect<number, E>
): Effect.Effect<Settings, E> =>
  Effect.gen(function*() {
    const misuse = Input.misuse(optionRules, options)
    if (misuse !== undefined) return yield* read.refuse(misuse)
    const { publicUrl } = policy
    if (policy.kind === "unsafe-no-auth") {
      return yield* read.refuse("under the policy unsafe-no-auth no one is signed in who could consent")
    }
    if (publicUrl === undefined ? policy.kind === "remote-reachable" : !isSecure(publicUrl)) {
      return yield* read.refuse("clients need the https address of the server: set the publicUrl of the policy")
    }
    const { prefix = "", resources = [] } = options
    const redirectSchemes = options.redirectSchemes ??
      (yield* read.optional("redirectSchemes", "schemes such as vscode, separated by commas", readSchemes)) ?? []
    const clients = options.clients ?? (yield* read.optional(
      "clients",
      "clients with their redirect URIs, such as workbench=http://127.0.0.1/callback, separated by commas",
      readClients
    )) ?? []
    if (prefix !== "" && (prefix.endsWith("/") || URL.parse(prefix, "http://a")?.pathname !== prefix)) {
      return yield* read.refuse(`prefix must be a path that does not end with a slash, not ${JSON.stringify(prefix)}`)
    }
    const scopes = options.scopes ?? (yield* read.literals(
      "scopes",
      vocabulary,
      vocabulary.filter((scope) => !AccessScope.widening.includes(scope))
    ))
    const names = resources.map(({ resource }) => resource)
    for (const one of resources) {
      if (
        !isResource(one) || one.scopes.length === 0 || names.indexOf(one.resource) !== names.lastIndexOf(one.resource)
      ) {
        return yield* read.refuse(
          `resources must each be a path without introspection or an https URL, once, with scopes, and with a secret of at ` +
            `least 32 characters if they ask about tokens; ${JSON.stringify(one.resource)} is not`
        )
      }
    }
    const unknown = AccessScope.missing(vocabulary, [...scopes, ...resources.flatMap(({ scopes }) => scopes)])
    if (unknown.length > 0) return yield* read.refuse(`scopes must be of the vocabulary; ${unknown.join(", ")} is not`)
    for (const client of clients) {
      const isFit = Text.isKey(client.id) && !/^https?:/i.test(client.id) && Text.isLine(client.name) &&
        client.redirectUris.length > 0 && client.redirectUris.every((uri) => isRedirectUri(uri, redirectSchemes))
      if (!isFit) {
        return yield* read.refuse(
          `clients must each have an id that is no address, a name, and redirectUris that may be redirected to; ` +
            `${JSON.stringify(client.id)} has not`
        )
      }
    }
    const codeMillis = yield* read.millis("codeLifetime", "60 seconds")
    if (codeMillis > 600_000) return yield* read.refuse(`${read.name("codeLifetime")} must be at most 10 minutes`)
    return { prefix, resources, scopes, clients, redirectSchemes, codeMillis, maxLetIn: yield* maxLetIn }
  })

const isSecure = (url: URL): boolean =>
  url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url.hostname))
