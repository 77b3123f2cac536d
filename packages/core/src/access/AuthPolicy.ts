/**
 * How a server is reached, and what follows from it: which credentials it takes, and how its cookies are set.
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as UrlParams from "effect/http/UrlParams"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../ServiceOptions.ts"
import * as Text from "../Text.ts"
import type { SessionMethod } from "./Session.ts"

/**
 * Names a policy: `desktop-managed-local` for a backend that a desktop application starts and signs in to,
 * `loopback-browser` for one that the machine's own browser pairs with, `remote-reachable` for one behind TLS, and
 * `unsafe-no-auth` for one that lets every user of the machine in.
 *
 * @category models
 * @since 0.1.0
 */
export const Kind = Schema.Literals(["desktop-managed-local", "loopback-browser", "remote-reachable", "unsafe-no-auth"])
/**
 * @see {@link Kind}
 *
 * @category models
 * @since 0.1.0
 */
export type Kind = typeof Kind.Type

/**
 * Names a way in: a pairing link, or the credential that a desktop application seeds.
 *
 * @category models
 * @since 0.1.0
 */
export const BootstrapMethod = Schema.Literals(["pairing-link", "seeded-credential"])
/**
 * @see {@link BootstrapMethod}
 *
 * @category models
 * @since 0.1.0
 */
export type BootstrapMethod = typeof BootstrapMethod.Type

/**
 * Reports a policy that does not fit the address that the server listens on. The server must not start.
 *
 * @category errors
 * @since 0.1.0
 */
export class PolicyRefused extends Schema.TaggedError<PolicyRefused>()("PolicyRefused", {
  policy: Kind,
  host: Schema.String,
  remedy: Schema.String
}) {
  override get message() {
    return `The policy ${this.policy} cannot be used on ${this.host}: it is reachable from other machines. ${this.remedy}`
  }
}

/**
 * Describes the policy in force, as clients see it before they sign in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Descriptor {
  readonly kind: Kind
  readonly bootstrapMethods: ReadonlyArray<BootstrapMethod>
  readonly sessionMethods: ReadonlyArray<SessionMethod>
  /** Whether cookies carry `Secure` and the `__Host-` prefix. */
  readonly secureCookies: boolean
  /**
   * The address under which clients reach what is at the root of this server, if it is known. A DPoP proof has to name
   * it. Without it a server on a loopback address goes by the `Host` header, and another one takes no proofs: the caller that
   * receives a proof could send it on under any `Host` that it was made for.
   */
  readonly publicUrl?: URL | undefined
  /** What the owner calls this server. People see it on its pages and beside its sessions. */
  readonly name?: string | undefined
}

/**
 * Provides the policy in force.
 *
 * @category services
 * @since 0.1.0
 */
export class AuthPolicy extends Context.Service<AuthPolicy, Descriptor>()("@sallyport/core/access/AuthPolicy") {}

const descriptors: Record<Kind, Omit<Descriptor, "kind" | "name" | "publicUrl">> = {
  "desktop-managed-local": {
    bootstrapMethods: ["seeded-credential", "pairing-link"],
    sessionMethods: ["browser-session-cookie", "bearer-access-token", "dpop-access-token"],
    secureCookies: false
  },
  "loopback-browser": {
    bootstrapMethods: ["pairing-link"],
    sessionMethods: ["browser-session-cookie", "bearer-access-token", "dpop-access-token"],
    secureCookies: false
  },
  "remote-reachable": {
    bootstrapMethods: ["pairing-link"],
    sessionMethods: ["browser-session-cookie", "bearer-access-token", "dpop-access-token"],
    secureCookies: true
  },
  "unsafe-no-auth": { bootstrapMethods: [], sessionMethods: [], secureCookies: false }
}

/**
 * Tells whether an address is reachable from this machine only: `localhost`, `127.0.0.0/8`, also in its IPv6 form, or
 * `::1`, with or without brackets. Other spellings of these, such as `127.1`, are not recognised: a doubtful address
 * counts as reachable.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isLoopback = (host: string): boolean => {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, "$1")
  if (name === "localhost") return true
  const address = NetAddress.ipFromString(name)
  return Result.isSuccess(address) && NetAddress.isLoopback(NetAddress.toCanonical(address.success))
}

/**
 * Lists the options of a policy.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The address that the server listens on. */
  readonly host: string
  /** The policy. Without one it is `loopback-browser` on a loopback address and `remote-reachable` elsewhere. */
  readonly kind?: Kind | undefined
  /** The address under which clients reach what is at the root of the server, such as `https://example.com`. */
  readonly publicUrl?: URL | string | undefined
  /** What people call the server: a line of up to 128 characters. Without it pages show the address. */
  readonly name?: string | undefined
}

/**
 * Reports options of a policy that cannot be read, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidAuthPolicyOptions extends Schema.TaggedError<InvalidAuthPolicyOptions>()(
  "InvalidAuthPolicyOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the policy cannot work: ${this.problem}`
  }
}

const webUrl = (written: unknown): URL | undefined => {
  const url = written instanceof URL ? written : URL.parse(String(written))
  return url !== null && /^https?:$/.test(url.protocol) ? url : undefined
}

const isKind = Schema.is(Kind)

const text = (written: unknown): string | undefined => Predicate.isString(written) ? written : undefined

/** Holds what is decoded of the options. */
interface Settings {
  readonly host: string
  readonly kind: Kind | undefined
  readonly publicUrl: URL | undefined
  readonly name: string | undefined
}

const invalid = (problem: string) => new InvalidAuthPolicyOptions({ problem })

/** Decodes the options. The policy is `kind` in code, and `SALLYPORT_POLICY` among the variables. */
const decode = Effect.fnUntraced(function*<E>(
  read: ServiceOptions.Reader<Options & { readonly policy: Kind }, E>,
  kind: "kind" | "policy",
  host?: string
): Effect.fn.Return<Settings, E> {
  const address = "an address, such as 127.0.0.1"
  return {
    host: host === undefined
      ? yield* read.required("host", address, text)
      : (yield* read.optional("host", address, text)) ?? host,
    kind: yield* read.optional(
      kind,
      `one of ${Kind.literals.join(", ")}`,
      (written) => isKind(written) ? written : undefined
    ),
    publicUrl: yield* read.optional("publicUrl", "an address, such as https://example.com", webUrl),
    name: yield* read.optional(
      "name",
      "one line of 1 to 128 characters",
      (written) => Predicate.isString(written) && Text.isLine(written) ? written : undefined
    )
  }
})

const choose = ({ host, kind: asked, name, publicUrl }: Settings): Effect.Effect<Descriptor, PolicyRefused> => {
  const local = isLoopback(host)
  const kind = asked ?? (local ? "loopback-browser" : "remote-reachable")
  const { sessionMethods, ...descriptor } = descriptors[kind]
  return local || kind === "remote-reachable"
    ? Effect.succeed({
      kind,
      ...descriptor,
      sessionMethods: kind === "remote-reachable" && publicUrl === undefined
        ? sessionMethods.filter((method) => method !== "dpop-access-token")
        : sessionMethods,
      ...(publicUrl === undefined ? {} : { publicUrl }),
      ...(name === undefined ? {} : { name })
    })
    : Effect.fail(
      new PolicyRefused({
        policy: kind,
        host,
        remedy: "Listen on 127.0.0.1, or use remote-reachable behind a proxy that terminates TLS."
      })
    )
}

/**
 * Chooses the policy for the address that a server listens on. Fails with {@link PolicyRefused} if the named one is for a
 * loopback address and this is none, and with {@link InvalidAuthPolicyOptions} if an option is not what it must be;
 * `unsafe-no-auth` is never chosen unasked.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Descriptor, InvalidAuthPolicyOptions | PolicyRefused> =>
  Effect.flatMap(
    ServiceOptions.decodeObject(options, {
      invalid,
      decode: (read: ServiceOptions.Reader<Options & { readonly policy: Kind }, InvalidAuthPolicyOptions>) =>
        decode(read, "kind")
    }),
    choose
  )

/** Names the query parameters that prove something: what they hold stands in no span. */
const secretParameters = ["ticket", "token", "code", "access_token", "refresh_token"]

/** Provides a policy, and keeps what proves something out of the spans of servers and clients in its context. */
const layerOf = <E, R>(policy: Effect.Effect<Descriptor, E, R>): Layer.Layer<AuthPolicy, E, R> =>
  Layer.effectContext(Effect.gen(function*() {
    const redacted = yield* UrlParams.CurrentRedactedNames
    return Context.make(AuthPolicy, yield* policy).pipe(
      Context.add(UrlParams.CurrentRedactedNames, [...redacted, ...secretParameters])
    )
  }))

/**
 * Provides the policy that {@link make} chooses.
 *
 * **Details**
 *
 * The layer also adds the query parameters that hold tickets and tokens to `UrlParams.CurrentRedactedNames`. Effect's
 * spans of HTTP requests have `<redacted>` in their place, for every server that is built over this layer.
 *
 * **Example** (Choosing the policy for an address)
 *
 * ```ts
 * import { AuthPolicy } from "@sallyport/core"
 * import { Console, Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { kind, secureCookies } = yield* AuthPolicy.AuthPolicy
 *   yield* Console.log(kind, secureCookies)
 * })
 *
 * Effect.runPromise(Effect.provide(program, AuthPolicy.layer({ host: "127.0.0.1" })))
 * // => loopback-browser false
 *
 * const refused = Effect.flip(Effect.scoped(Layer.build(AuthPolicy.layer({ host: "0.0.0.0", kind: "unsafe-no-auth" }))))
 *
 * Effect.runPromise(Effect.flatMap(refused, ({ _tag }) => Console.log(_tag)))
 * // => PolicyRefused
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<AuthPolicy, InvalidAuthPolicyOptions | PolicyRefused> =>
  layerOf(make(options))

/**
 * Provides the policy of the configuration: `SALLYPORT_HOST`, the address that the server listens on, `127.0.0.1` unless
 * set; `SALLYPORT_POLICY`; `SALLYPORT_PUBLIC_URL`; `SALLYPORT_NAME`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  AuthPolicy,
  Config.ConfigError | InvalidAuthPolicyOptions | PolicyRefused
> = layerOf(
  Effect.flatMap(decode(ServiceOptions.fromConfig("SALLYPORT", invalid), "policy", "127.0.0.1"), choose)
)
