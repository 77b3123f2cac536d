/**
 * An issuer of ID tokens on loopback, and a server that takes them, with a clock that a test moves.
 */
import * as AuthorizationServer from "@sallyport/core/access/AuthorizationServer"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as IdentityProviders from "@sallyport/http/IdentityProviders"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose"
import { randomUUID } from "node:crypto"
import type * as Http from "node:http"
import { type DocumentServer, post, startDocuments } from "./authorizationSupport.ts"
import { type Server, type ServerOptions, start } from "./support.ts"
import { telling } from "../../../test-support/clock.ts"

export const audience = "the-command"
export const idToken = "urn:ietf:params:oauth:token-type:id_token"
export const proxyHeader = "urn:sallyport:token-type:proxy-header"

export const makeKey = (alg: string, kid: string) =>
  Effect.promise(async () => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
    return { alg, kid, privateKey, publicKey, jwk: { ...await exportJWK(publicKey), kid, alg, use: "sig" } }
  })
export type Key = Effect.Success<ReturnType<typeof makeKey>>

export interface Issuer {
  readonly issuer: string
  readonly documents: DocumentServer
  readonly key: Key
  /** Publishes keys from now on. */
  readonly publish: (keys: ReadonlyArray<unknown>, headers?: Http.OutgoingHttpHeaders) => void
  /** Signs the claims of a good token with others in their place; one that is undefined is left out. */
  readonly sign: (
    claims?: Readonly<Record<string, unknown>>,
    header?: Readonly<Record<string, unknown>>,
    key?: Key
  ) => Effect.Effect<string>
}

export const json = (value: unknown, headers: Http.OutgoingHttpHeaders = {}) => (response: Http.ServerResponse) =>
  void response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(value))

/** Starts an issuer, which stops with the scope. */
export const startIssuer = (alg = "RS256") =>
  Effect.gen(function*() {
    const documents = yield* startDocuments
    const key = yield* makeKey(alg, "first")
    const issuer = documents.origin
    documents.serve("/.well-known/openid-configuration", json({ issuer, jwks_uri: `${issuer}/keys` }))
    const made: Issuer = {
      issuer,
      documents,
      key,
      publish: (keys, headers) => void documents.serve("/keys", json({ keys }, headers)),
      sign: (claims = {}, header = {}, by = key) =>
        Effect.map(Clock.currentTimeMillis, (nowMillis) => Math.floor(nowMillis / 1000)).pipe(
          Effect.flatMap((now) =>
            Effect.promise(() => {
              const payload: JWTPayload = {
                iss: issuer,
                aud: audience,
                sub: "1234",
                iat: now,
                exp: now + 300,
                jti: randomUUID(),
                ...claims
              }
              return new SignJWT(JSON.parse(JSON.stringify(payload))).setProtectedHeader({
                alg: by.alg,
                kid: by.kid,
                typ: "JWT",
                ...header
              }).sign(by.privateKey)
            })
          )
        )
    }
    made.publish([key.jwk])
    return made
  })

export interface IdentityServer extends Server {
  /** Moves the server's clock. */
  readonly advance: (millis: number) => void
}

/** Starts a server that lets in each subject under its own name, unless the options say otherwise. */
export const startServer = (
  options: Partial<IdentityProviders.Options>,
  {
    authorization = false,
    http = PublicHttp.layerWith({ loopback: true }),
    replays = ReplayRepository.layerMemory,
    ...server
  }: Omit<ServerOptions, "routes"> & {
    /** Where tokens are spent. */
    readonly replays?: Layer.Layer<ReplayRepository.ReplayRepository>
    readonly http?: typeof PublicHttp.layer
    /** Whether it is an authorization server too, whose token endpoint is open to pages of every origin. */
    readonly authorization?: boolean
  } = {}
) =>
  Effect.gen(function*() {
    let offset = 0
    const real = yield* Clock.Clock
    const started = yield* start({
      ...server,
      routes: Sallyport.layer({ pages: false }).pipe(
        Layer.provide(IdentityProviders.layerWith({
          admit: ({ subject }) => Effect.succeed({ subject: `sub-${subject}` }),
          ...options
        })),
        Layer.provide(authorization ? AuthorizationServer.layer : Layer.empty),
        Layer.provide(DpopProof.layer),
        Layer.provide(replays),
        Layer.provide(http),
        Layer.orDie
      )
    }).pipe(
      Effect.provideService(Clock.Clock, telling(() => real.currentTimeMillisUnsafe() + offset, real))
    )
    const made: IdentityServer = {
      ...started,
      advance: (millis) => {
        offset += millis
      }
    }
    return made
  })

/** Exchanges an ID token, with other fields beside it. */
export const exchange = (
  server: Server,
  token: string,
  fields: Readonly<Record<string, string>> = {},
  headers?: Http.OutgoingHttpHeaders
) =>
  post(server, "/oauth/token", {
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: token,
    subject_token_type: idToken,
    ...fields
  }, headers)
