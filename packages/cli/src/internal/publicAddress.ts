/** Checks the address of a server as its clients reach it: that it answers, its certificate, and its clock. */
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { isLoopback } from "@sallyport/core/access/AuthPolicy"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import { isIP } from "node:net"
import { connect, type PeerCertificate } from "node:tls"
import { CommandFailed } from "../ExitCode.ts"
import type * as Output from "../Output.ts"

export type Check = typeof Output.Doctor.Type["checks"][number]

export const good = (check: string, detail: string): Check => ({ check, state: "good", detail, remedy: null })
export const bad = (check: string, detail: string, remedy: string | null = null): Check => ({
  check,
  state: "bad",
  detail,
  remedy
})
const doubtful = (check: string, detail: string, remedy: string): Check => ({
  check,
  state: "doubtful",
  detail,
  remedy
})

/** How far two clocks may be apart: proofs and tokens allow for less than the five minutes at which they stop working. */
const maxSkewMillis = 30_000

/** Compares another clock with the one of this machine, which it was read from and to. */
export const clock = (other: string, timeMillis: number, fromMillis: number, toMillis: number): Check => {
  const skewMillis = Math.max(0, fromMillis - timeMillis, timeMillis - toMillis)
  return skewMillis <= maxSkewMillis
    ? good("clock", `the clocks of ${other} and of this machine agree`)
    : bad(
      "clock",
      `the clocks of ${other} and of this machine are ${Math.round(skewMillis / 1000)} seconds apart`,
      "Turn on time synchronisation (NTP) on both"
    )
}

const renew = "Renew it, and see why it was not renewed by itself"

/** What Node.js says of a certificate that clients do not accept, in words for the operator. */
const certificateFaults: Readonly<Record<string, readonly [detail: string, remedy: string]>> = {
  CERT_HAS_EXPIRED: ["has expired", renew],
  CERT_NOT_YET_VALID: ["is not valid yet", "Set the clock of this machine, or get another"],
  DEPTH_ZERO_SELF_SIGNED_CERT: [
    "is signed by itself, and no client trusts it",
    "Get one from an authority that browsers know, such as Let's Encrypt"
  ],
  SELF_SIGNED_CERT_IN_CHAIN: [
    "comes from an authority that this machine does not know",
    "Get one from an authority that browsers know, or install the authority on each device; for this program name its " +
    "file in NODE_EXTRA_CA_CERTS"
  ],
  ERR_TLS_CERT_ALTNAME_INVALID: ["is for another name", "Get one for this name, or correct the address"]
}
const unknownAuthority = [
  "comes from an authority that this machine does not know, or the server leaves the certificates between them out",
  "Have the server send the whole chain; for an authority of your own name its file in NODE_EXTRA_CA_CERTS"
] as const

/** What the system says of a connection that cannot be made. */
const connectionFaults: Readonly<Record<string, readonly [detail: string, remedy: string]>> = {
  ECONNREFUSED: ["nothing listens there", "Start the server, or correct the port"],
  ENOTFOUND: ["there is no such host", "Correct the name, or add it to your DNS"],
  EAI_AGAIN: ["the name cannot be looked up now", "Look at the name server of this machine"],
  ERR_SSL_WRONG_VERSION_NUMBER: [
    "what listens there speaks no TLS",
    "Put the proxy that terminates TLS there, or correct the port"
  ],
  EPROTO: ["what listens there speaks no TLS", "Put the proxy that terminates TLS there, or correct the port"]
}
const noAnswer = [
  "does not answer",
  "Start the server, and see that its proxy and its firewall let this address through"
] as const

const codeOf = (error: unknown): string => {
  if (!Predicate.hasProperty(error, "code")) {
    return Predicate.hasProperty(error, "cause") ? codeOf(error.cause) : ""
  }
  return String(error.code)
}

/** Says why a server is not reached, and what to do. */
const connectionFault = (error: unknown): readonly [detail: string, remedy: string] => {
  const code = codeOf(error)
  const ofCertificate = certificateFaults[code]
  return ofCertificate === undefined
    ? connectionFaults[code] ??
      (/CERT|UNABLE_TO/.test(code) ? [`its certificate ${unknownAuthority[0]}`, unknownAuthority[1]] : noAnswer)
    : [`its certificate ${ofCertificate[0]}`, ofCertificate[1]]
}

const unreachable = (url: URL, error: unknown): Check => {
  const [detail, remedy] = connectionFault(error)
  return bad("address", `${url.host}: ${detail}`, remedy)
}

/** Says of an address that something else than a backend of this version answers there. */
export const notBackend = (url: string) =>
  new CommandFailed({
    code: "Failed",
    message: `${
      new URL(url).host
    } does not answer as a backend of this version does; correct --url, or upgrade the older of the two`
  })

/** Tells why a server is not reached, or to where it sends its clients: the token is for the address that was named. */
export const explain = HttpClient.transformResponse(
  Effect.matchEffect({
    onSuccess: (response: HttpClientResponse.HttpClientResponse) =>
      response.status >= 300 && response.status < 400
        ? Effect.fail(
          new CommandFailed({
            code: "Failed",
            message: `${new URL(response.request.url).host} sends its clients to ${
              response.headers["location"] ?? "another address"
            }, and the token was not sent there; name that address with --url`
          })
        )
        : Effect.succeed(response),
    onFailure: (error: HttpClientError.HttpClientError) => {
      const [detail, remedy] = connectionFault(error.reason.cause)
      return Effect.fail(
        new CommandFailed({
          code: "Unavailable",
          message: `${new URL(error.request.url).host}: ${detail}. ${remedy}`
        })
      )
    }
  })
)

interface Presented {
  readonly certificate: PeerCertificate
  /** Why clients do not accept it; none if they do. */
  readonly fault: string | undefined
}

/** Reads the certificate of a server, whether clients accept it or not. */
const present = ({ hostname, port }: URL) => {
  const host = hostname.replace(/^\[|\]$/g, "")
  return Effect.acquireUseRelease(
    Effect.sync(() =>
      connect({
        host,
        port: port === "" ? 443 : Number(port),
        // An address is no name that a server could choose a certificate by.
        ...(isIP(host) === 0 ? { servername: host } : {}),
        rejectUnauthorized: false,
        timeout: 10_000
      })
    ),
    (socket) =>
      Effect.callback<Presented, Error>((resume) => {
        socket.once("secureConnect", () => {
          const error: unknown = socket.authorizationError
          const code = Predicate.hasProperty(error, "code") ? error.code : error
          resume(Effect.succeed({
            certificate: socket.getPeerCertificate(),
            fault: socket.authorized ? undefined : String(code)
          }))
        })
        socket.on("error", (error) => resume(Effect.fail(error)))
        socket.once("timeout", () => resume(Effect.fail(new Error("no answer"))))
      }),
    (socket) => Effect.sync(() => socket.destroy())
  )
}

const soon = Duration.days(14)

const checkCertificate = Effect.fnUntraced(function*({ certificate, fault }: Presented) {
  if (fault !== undefined) {
    const [detail, remedy] = certificateFaults[fault] ?? unknownAuthority
    return bad("certificate", `it ${detail}`, remedy)
  }
  const end = DateTime.makeUnsafe(certificate.valid_to)
  const now = yield* DateTime.now
  return DateTime.isLessThan(end, DateTime.addDuration(now, soon))
    ? doubtful("certificate", `it ends at ${DateTime.formatIso(end)}`, renew)
    : good("certificate", `good until ${DateTime.formatIso(end)}`)
})

/** A redirect is told, and not followed: what stands in front of a server must not change its address. */
export const layerHttp = Layer.provide(
  FetchHttpClient.layer,
  Layer.succeed(FetchHttpClient.RequestInit, { redirect: "manual", credentials: "omit" })
)

/** Asks the server whether it is ready, and for the time. */
const checkServer = Effect.fnUntraced(function*(url: URL, baseUrl: string) {
  const { health } = yield* HttpApiClient.make(SallyportApi, { baseUrl })
  const before = yield* DateTime.now
  const asked = yield* Effect.result(
    Effect.timeout(health.ready({ responseMode: "decoded-and-response" }), "10 seconds")
  )
  const after = yield* DateTime.now
  if (asked._tag === "Failure") {
    const error = asked.failure
    switch (error._tag) {
      case "NotReady":
        return [
          bad(
            "address",
            `${url.host} is not ready: ${error.message}`,
            `Run "sallyport doctor" where it runs; ${
              Object.entries(error.checks).filter(([, { status }]) => status !== "ok").map(([name, { status }]) =>
                `${name} ${status}`
              ).join(", ")
            }`
          )
        ]
      case "HttpClientError": {
        if (error.reason._tag === "TransportError") return [unreachable(url, error.reason.cause)]
        const location = error.response?.headers["location"]
        return [
          location === undefined
            ? bad(
              "address",
              `${url.host} answers ${error.response?.status ?? ""}, and not as a backend`,
              "Correct the address, or the path that the proxy passes on"
            )
            : bad("address", `${url.host} sends its clients to ${location}`, "Name the address that it sends them to")
        ]
      }
      case "TimeoutError":
        return [unreachable(url, error)]
      default:
        return [
          bad(
            "address",
            `${url.host} answers, and not as a backend`,
            "Correct the address, or the path that the proxy passes on"
          )
        ]
    }
  }
  const [{ status }, { headers }] = asked.success
  const time = Date.parse(headers["date"] ?? "")
  return [
    status === "ok"
      ? good("address", `${url.host} answers`)
      : doubtful("address", `${url.host} answers, and works more slowly than it should`, "See the log of the server"),
    Number.isNaN(time)
      ? doubtful("clock", "the server tells no time", "Have the proxy pass on the header Date")
      : clock("the server", time, before.epochMilliseconds, after.epochMilliseconds)
  ]
})

/** Tells whether a browser keeps a session of the address: over https, or on this machine. */
export const isSecure = ({ hostname, protocol }: URL): boolean => protocol === "https:" || isLoopback(hostname)

/** Checks an address. */
export const check = Effect.fnUntraced(function*(address: string) {
  const baseUrl = yield* Effect.fromResult(PairingUrl.httpBase(address))
  const url = new URL(baseUrl)
  const checks: Array<Check> = []
  if (url.protocol === "https:") {
    const presented = yield* Effect.result(present(url))
    if (presented._tag === "Failure") return [unreachable(url, presented.failure)]
    checks.push(yield* checkCertificate(presented.success))
    // No client asks a server whose certificate it does not accept.
    if (presented.success.fault !== undefined) return checks
  } else if (!isSecure(url)) {
    checks.push(doubtful(
      "certificate",
      "the address is plain http, over which a browser does not pair",
      "Put a proxy that terminates TLS before the server, and name its https address"
    ))
  }
  return [...(yield* checkServer(url, baseUrl)), ...checks]
}, Effect.provide(layerHttp))
