/**
 * HTTP requests to addresses that strangers have named: a relay's environments, subscribers' webhooks.
 *
 * Such a request goes over HTTPS to a public address. A name is resolved, and every address that it stands for is checked;
 * the connection is made to those very addresses, so that a name that changes its mind in between leads nowhere else.
 * Redirects are not followed.
 */
import * as Input from "@sallyport/core/Input"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Dns from "node:dns/promises"
import * as Http from "node:http"
import * as Https from "node:https"
import type { LookupFunction } from "node:net"

/**
 * Reports an address that is not called: it is no HTTPS URL, or leads to this machine, to a private network, or to another
 * special range.
 *
 * @category errors
 * @since 0.1.0
 */
export class AddressRefused extends Schema.TaggedError<AddressRefused>()("AddressRefused", {
  host: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.host} is not called: ${this.problem}`
  }
}

/**
 * Describes an address that a name stands for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolved {
  readonly address: string
  readonly family: number
}

/**
 * Resolves a name to addresses; by default as the system does. A host with a resolver of its own provides it here.
 *
 * @category references
 * @since 0.1.0
 */
export const Resolver = Context.Reference<(name: string) => Effect.Effect<ReadonlyArray<Resolved>, Error>>(
  "@sallyport/node/PublicHttp/Resolver",
  {
    defaultValue: () => (name) =>
      Effect.tryPromise({
        try: () => Dns.lookup(name, { all: true }),
        catch: (cause) => new Error(`${name} cannot be resolved`, { cause })
      })
  }
)

/**
 * Says which addresses may be called beside the public ones.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Whether plain HTTP to `localhost`, `127.x.x.x` and `[::1]` may be called too. Default false. */
  readonly loopback?: boolean | undefined
}

const demandOptions = (options: Options = {}) => Input.demand("PublicHttp", { loopback: Input.flag }, options)

const networks = (texts: ReadonlyArray<string>) => texts.map((text) => IpNetwork.fromStringUnsafe(text))
const contain = (all: ReadonlyArray<IpNetwork.IpNetwork>, address: NetAddress.IpAddress) =>
  all.some((network) => IpNetwork.contains(network, address))

// The IANA registries of special-purpose addresses, and what clouds answer at beside them.
const specialV4 = networks([
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3"
])
// All that is not global unicast is special: mapped, compatible and translated IPv4 addresses among it.
const globalV6 = networks(["2000::/3"])
const specialV6 = networks(["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"])
const loopbacks = networks(["127.0.0.0/8", "::1/128"])

/**
 * Tells whether an IP address is one of the public internet. What is none, and what stands for an IPv4 address inside of an
 * IPv6 address, is not.
 */
const isPublic = (address: string): boolean => {
  const parsed = NetAddress.ipFromString(address)
  if (Result.isFailure(parsed)) return false
  return NetAddress.isIpv4Address(parsed.success)
    ? !contain(specialV4, parsed.success)
    : contain(globalV6, parsed.success) && !contain(specialV6, parsed.success)
}

const isLoopback = (address: string): boolean =>
  Result.match(NetAddress.ipFromString(address), {
    onFailure: () => false,
    onSuccess: (parsed) => contain(loopbacks, parsed)
  })

// Names that stand for no public host, whatever they resolve to.
const localName = /^[^.]*$|\.(?:localhost|local|internal|home\.arpa)$/

interface Target {
  readonly host: string
  /** The address itself, if the URL has one. The URL parser has written every form of it in the one canonical way. */
  readonly address: string | undefined
  readonly isAllowed: (address: string) => boolean
}

/** Reads a URL, and refuses one that may not be called whatever its name resolves to. */
const targetOf = (text: string, options: Options | undefined): Result.Result<Target, AddressRefused> => {
  const url = URL.parse(text)
  const host = (url?.hostname ?? "").replace(/(?<!\.)\.+$/, "")
  const refuse = (problem: string) =>
    Result.fail(new AddressRefused({ host: host === "" ? "The address" : host, problem }))
  if (url === null) return refuse("it is no URL")
  if (url.username !== "" || url.password !== "") return refuse("it has credentials in it")
  const literal = host.startsWith("[") ? host.slice(1, -1) : host
  const address = Result.isSuccess(NetAddress.ipFromString(literal)) ? literal : undefined
  if (url.protocol === "http:" && options?.loopback === true) {
    return (address === undefined ? host === "localhost" : isLoopback(address))
      ? Result.succeed({ host, address, isAllowed: isLoopback })
      : refuse("over plain HTTP only this machine may be called")
  }
  if (url.protocol !== "https:") return refuse("it must begin with https://")
  if (address === undefined ? localName.test(host) : !isPublic(address)) return refuse("it is no public address")
  return Result.succeed({ host, address, isAllowed: isPublic })
}

/** Refuses a name if any of its addresses may not be called. */
const checkAll = (host: string, found: ReadonlyArray<Resolved>, isAllowed: (address: string) => boolean) =>
  found.every(({ address }) => isAllowed(address))
    ? Result.succeed(found)
    : Result.fail(new AddressRefused({ host, problem: "its name leads to an address that is not public" }))

/**
 * Makes what checks a URL that a stranger has named: its form, and every address that its name stands for now. A name that
 * does not resolve leads nowhere, and is let pass: each call is checked again.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeCheck: (options?: Options) => Effect.Effect<(url: string) => Effect.Effect<void, AddressRefused>> =
  Effect.fnUntraced(function*(options?: Options) {
    demandOptions(options)
    const resolve = yield* Resolver
    return Effect.fn("PublicHttp.check")(function*(url: string) {
      const { address, host, isAllowed } = yield* Effect.fromResult(targetOf(url, options))
      if (address !== undefined) return
      const found = yield* resolve(host).pipe(
        Effect.timeout("5 seconds"),
        Effect.orElseSucceed((): ReadonlyArray<Resolved> => [])
      )
      yield* Effect.fromResult(checkAll(host, found, isAllowed))
    })
  })

/**
 * Creates an HTTP client that calls no other addresses than {@link makeCheck} lets pass. What it refuses fails as a request
 * that could not be sent, with {@link AddressRefused} as the cause. Its connections are closed with the scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (options?: Options) => Effect.Effect<HttpClient.HttpClient, never, Scope.Scope> = Effect.fnUntraced(
  function*(options?: Options) {
    demandOptions(options)
    const resolve = yield* Resolver
    const run = Effect.runForkWith(yield* Effect.context<never>())
    // The sockets connect to what this answers. A host that is an address is not looked up; it was checked before.
    const lookup = (isAllowed: (address: string) => boolean): LookupFunction => (name, { all, family }, callback) => {
      const wanted = family === "IPv4" ? 4 : family === "IPv6" ? 6 : family ?? 0
      const found = Effect.flatMap(
        resolve(name),
        (addresses) => Effect.fromResult(checkAll(name, addresses, isAllowed))
      )
      run(Effect.match(found, {
        onFailure: (error) => callback(error, ""),
        onSuccess: (addresses) => {
          const usable = addresses.filter((each) => wanted === 0 || each.family === wanted)
          const [first] = usable
          if (first === undefined) callback(new AddressRefused({ host: name, problem: "its name leads nowhere" }), "")
          else if (all === true) callback(null, usable.map(({ address, family }) => ({ address, family })))
          else callback(null, first.address, first.family)
        }
      }))
    }
    const agent = <A extends Http.Agent>(made: A) =>
      Effect.acquireRelease(Effect.succeed(made), () => Effect.sync(() => made.destroy()))
    const http = yield* agent(new Http.Agent({ lookup: lookup(isLoopback) }))
    const https = yield* agent(new Https.Agent({ lookup: lookup(isPublic) }))
    const client = yield* Effect.provideService(NodeHttpClient.makeNodeHttp, NodeHttpClient.HttpAgent, { http, https })
    return HttpClient.mapRequestEffect(client, (request) =>
      Result.match(targetOf(request.url, options), {
        onSuccess: () => Effect.succeed(request),
        onFailure: (cause) =>
          Effect.fail(
            new HttpClientError.HttpClientError({ reason: new HttpClientError.TransportError({ request, cause }) })
          )
      }))
  }
)

/**
 * Says why a request was not sent, if that is because of its address.
 *
 * @category converting
 * @since 0.1.0
 */
export const refusalOf = (error: HttpClientError.HttpClientError): AddressRefused | undefined =>
  error.reason._tag === "TransportError" && error.reason.cause instanceof AddressRefused
    ? error.reason.cause
    : undefined

/**
 * Provides the client of {@link make} with given options.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<HttpClient.HttpClient> =>
  Layer.effect(HttpClient.HttpClient, make(options))

/**
 * Provides the client of {@link make}, which reaches public addresses alone.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<HttpClient.HttpClient> = layerWith({})
