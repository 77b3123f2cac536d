/**
 * A server that takes DPoP proofs, on a real socket and with a clock that a test moves, and a client that makes proofs by
 * hand, so that it can make any.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import type { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { createHash, generateKeyPairSync, type KeyObject, randomUUID, sign } from "node:crypto"
import * as Http from "node:http"
import { type Answer, type Request, send } from "./support.ts"
import { telling } from "../../../test-support/clock.ts"

// -----------------------------------------------------------------------------
// Server
// -----------------------------------------------------------------------------

/** Answers with the session that was let in, and talks over a socket with the client that upgrades. */
const WhoAmI = HttpRouter.addAll([
  HttpRouter.route(
    "GET",
    "/whoami",
    CurrentSession.useSync(({ method, proofKeyThumbprint, subject }) =>
      HttpServerResponse.jsonUnsafe({ subject, method, proofKeyThumbprint })
    )
  ),
  HttpRouter.route(
    "GET",
    "/socket",
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const { method, proofKeyThumbprint } = yield* CurrentSession
      const socket = yield* request.upgrade
      const reader = yield* socket.reader
      yield* (yield* socket.writer).write(JSON.stringify({ method, proofKeyThumbprint }))
      yield* Effect.ignore(Effect.forever(reader.pull))
      return HttpServerResponse.empty()
    }).pipe(Effect.scoped, Effect.orDie)
  )
]).pipe(Layer.provide(Authentication.guard(null).layer))

export interface DpopServer {
  readonly port: number
  readonly origin: string
  readonly send: (request: Request) => Effect.Effect<Answer>
  readonly sessions: SessionCredentialService.SessionCredentialService["Service"]
  readonly links: BootstrapCredentialService.BootstrapCredentialService["Service"]
  readonly secrets: SecretStore.SecretStore["Service"]
  /** The server's time. */
  readonly nowMillis: () => number
  /** Moves the server's clock. */
  readonly advance: (millis: number) => void
}

/** Starts a server, which stops with the scope. `publicUrl` is an address that it is told, and doesn't listen on. */
export const start = Effect.fnUntraced(function*(options: {
  readonly dpop?: DpopProof.Options | "none" | undefined
  readonly publicUrl?: URL | undefined
  readonly policy?: AuthPolicy.Kind | undefined
  readonly prefix?: `/${string}` | undefined
  /** Whether the server's clock stands still unless the test moves it. */
  readonly frozen?: boolean | undefined
  /** Where proofs are spent; in memory by default. */
  readonly replays?: Layer.Layer<ReplayRepository> | undefined
} = {}): Effect.fn.Return<DpopServer, never, Scope.Scope> {
  let offset = 0
  const real = yield* Clock.Clock
  const startedAt = real.currentTimeMillisUnsafe()
  const nowMillis = () => (options.frozen === true ? startedAt : real.currentTimeMillisUnsafe()) + offset
  const clock = telling(nowMillis, real)
  const dpop: Layer.Layer<
    never,
    Layer.Error<ReturnType<typeof DpopProof.layerWith>>,
    Layer.Services<typeof DpopProof.layer>
  > = options.dpop === "none" ? Layer.empty : DpopProof.layerWith(options.dpop ?? {}).pipe(
    Layer.provide(options.replays ?? Layer.empty)
  )
  const layer = HttpRouter.serve(Layer.merge(Sallyport.layer({ prefix: options.prefix }), WhoAmI), {
    disableLogger: true,
    disableListenLog: true
  }).pipe(
    Layer.provide(RunProgram.layer(() => Effect.void)),
    Layer.provideMerge(
      Layer.mergeAll(
        SessionCredentialService.layer,
        BootstrapCredentialService.layer,
        RunEventLog.layer,
        dpop,
        AuthPolicy.layer({ host: "127.0.0.1", kind: options.policy, publicUrl: options.publicUrl })
      )
    ),
    Layer.provideMerge(Layer.merge(Repositories.layerMemory, SecretStore.layerMemory)),
    Layer.provideMerge(
      NodeHttpServer.layer(() => Http.createServer(), {
        host: "127.0.0.1",
        port: 0,
        gracefulShutdownTimeout: "1 second"
      })
    ),
    Layer.provideMerge(NodeCrypto.layer)
  )
  const context = yield* Effect.orDie(
    Effect.provideService(Layer.buildWithScope(layer, yield* Scope.Scope), Clock.Clock, clock)
  )
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = "port" in address ? address.port : 0
  return {
    port,
    origin: `http://127.0.0.1:${port}`,
    send: (request) => send(port, request),
    sessions: Context.get(context, SessionCredentialService.SessionCredentialService),
    links: Context.get(context, BootstrapCredentialService.BootstrapCredentialService),
    secrets: Context.get(context, SecretStore.SecretStore),
    nowMillis,
    advance: (millis) => {
      offset += millis
    }
  }
})

/** Returns a fresh pairing code. */
export const code = (server: DpopServer, proofKeyThumbprint?: string) =>
  Effect.orDie(Effect.map(
    server.links.issue({ issuedBy: "operator", scopes: AccessScope.builtin, proofKeyThumbprint }),
    ({ code }) => Redacted.value(code)
  ))

/** Returns the token of a new session, bound to a key if one is given. */
export const token = (server: DpopServer, proofKeyThumbprint?: string) =>
  Effect.orDie(Effect.map(
    server.sessions.issue({
      subject: "owner",
      scopes: AccessScope.builtin,
      method: proofKeyThumbprint === undefined ? "bearer-access-token" : "dpop-access-token",
      proofKeyThumbprint
    }),
    (issued) => Redacted.value(issued.token)
  ))

/** Returns the stored signing key, as an independent verifier would be given it. */
export const signingKey = (server: DpopServer) =>
  Effect.orDie(Effect.map(server.secrets.get("session-signing-keys"), (secret) => {
    const set: { readonly keys: ReadonlyArray<{ readonly kid: string; readonly k: string }> } = JSON.parse(
      new TextDecoder().decode(Redacted.value(Option.getOrThrow(secret)))
    )
    const key = set.keys[0]
    if (key === undefined) throw new Error("There is no signing key")
    return { kid: key.kid, bytes: Buffer.from(key.k, "base64url") }
  }))

// -----------------------------------------------------------------------------
// Proofs
// -----------------------------------------------------------------------------

export type Json = Readonly<Record<string, unknown>>

export const encode = (value: unknown): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url")

export interface Key {
  readonly alg: "ES256" | "ES384" | "EdDSA"
  readonly privateKey: KeyObject
  readonly jwk: Json
  readonly privateJwk: Json
  readonly thumbprint: string
}

export const generate = (alg: Key["alg"] = "ES256"): Key => {
  const { privateKey, publicKey } = alg === "EdDSA"
    ? generateKeyPairSync("ed25519")
    : generateKeyPairSync("ec", { namedCurve: alg === "ES256" ? "P-256" : "P-384" })
  const { crv, kty, x, y } = publicKey.export({ format: "jwk" })
  const jwk = y === undefined ? { crv, kty, x } : { crv, kty, x, y }
  return {
    alg,
    privateKey,
    jwk,
    privateJwk: { ...privateKey.export({ format: "jwk" }) },
    thumbprint: createHash("sha256").update(JSON.stringify(jwk)).digest("base64url")
  }
}

export const athOf = (token: string): string => createHash("sha256").update(token).digest("base64url")

/** Signs the input as JWS does: `r || s` for ECDSA. */
export const signature = (key: Key, input: string): Buffer =>
  sign(key.alg === "EdDSA" ? undefined : key.alg === "ES256" ? "sha256" : "sha384", Buffer.from(input), {
    key: key.privateKey,
    dsaEncoding: "ieee-p1363"
  })

/** Makes a proof from what it is to say; a member that is undefined is left out. */
export const prove = (key: Key, header: Json | string, claims: Json | string): string => {
  const input = `${encode(header)}.${encode(claims)}`
  return `${input}.${signature(key, input).toString("base64url")}`
}

export const headerOf = (key: Key): Json => ({ typ: "dpop+jwt", alg: key.alg, jwk: key.jwk })

export const claimsOf = (request: {
  readonly method: string
  readonly url: string
  readonly nowMillis: number
  readonly token?: string | undefined
}): Json => ({
  jti: randomUUID(),
  htm: request.method,
  htu: request.url,
  iat: Math.floor(request.nowMillis / 1000),
  ...(request.token === undefined ? {} : { ath: athOf(request.token) })
})
