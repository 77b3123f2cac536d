/**
 * Who is signed in on this device, and who else may be: pairing, the session's state, the other sessions, pairing links.
 *
 * Nothing here is tried twice: a request whose answer is lost may have used a pairing code up, and for the rest the caller
 * knows better whether it still matters.
 */
import { PairingLinkView, SessionView } from "@sallyport/contract/AccessSchemas"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { bootstrapTokenType, SessionState, tokenExchange, TokenResponse } from "@sallyport/contract/SessionGroup"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import type { SessionId } from "@sallyport/core/access/Session"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { ClientError, UnexpectedAnswer } from "./ClientError.ts"
import { Connection } from "./Connection.ts"
import { Credentials } from "./Credentials.ts"
import * as Answer from "./internal/answer.ts"

/**
 * Describes how a device pairs.
 *
 * @category options
 * @since 0.1.0
 */
export interface PairOptions {
  /** The code as somebody typed it, in any case, with or without dashes; or what a pairing link's fragment holds. */
  readonly code: Redacted.Redacted
  /** What the session is called in the list of sessions. With a token the server makes a name of its own. */
  readonly label?: string | undefined
  /** What the session may do; all that the link grants by default. With a token only: a cookie's session has all. */
  readonly scopes?: ReadonlyArray<AccessScope> | undefined
}

/**
 * Describes a link that lets another device in.
 *
 * @category options
 * @since 0.1.0
 */
export interface LinkOptions {
  /** What the new device may do; by default all that this one may. */
  readonly scopes?: ReadonlyArray<AccessScope> | undefined
  readonly label?: string | undefined
  /** `machine` makes a longer code, to be pasted rather than typed. */
  readonly kind?: "device" | "machine" | undefined
  /** The JWK thumbprint (RFC 7638) of the only key that can redeem the code. */
  readonly proofKeyThumbprint?: string | undefined
  /** How long the code can be redeemed, in whole seconds; the server's default where absent. */
  readonly lifetime?: Duration.Input | undefined
}

/**
 * Describes a link with its code, which is told once.
 *
 * @category models
 * @since 0.1.0
 */
export interface IssuedLink {
  readonly link: PairingLinkView
  readonly code: Redacted.Redacted
}

/**
 * Provides who is signed in, and who else may be.
 *
 * @category services
 * @since 0.1.0
 */
export class Access extends Context.Service<Access, {
  /**
   * Returns whether this device is signed in. It is asked for once, and remembered until this client signs in or out, or the
   * server turns the credential away.
   */
  readonly state: Effect.Effect<typeof SessionState.Type, ClientError>
  /** Asks the server again, and remembers what it says. */
  readonly refresh: Effect.Effect<typeof SessionState.Type, ClientError>
  /** Tells what is remembered, and every change of it; none while nothing is known. Asks for nothing by itself. */
  readonly changes: Stream.Stream<Option.Option<typeof SessionState.Type>>
  /**
   * Exchanges a pairing code for a session, and keeps what proves it. What was remembered about being signed out is dropped,
   * also where an older request is still to answer with it.
   *
   * The code can be used up although this fails with `Unreachable`: ask `refresh` whether it was, and for a new link if so.
   */
  readonly pair: (options: PairOptions) => Effect.Effect<void, ClientError>
  /** Ends this session on the server, and forgets what proves it. A session that had ended before is success. */
  readonly logout: Effect.Effect<void, ClientError>
  /** Lists this subject's sessions. */
  readonly sessions: Effect.Effect<ReadonlyArray<SessionView>, ClientError>
  /** Ends another session. Ending the own one is a `Conflict`: that is `logout`. */
  readonly revokeSession: (id: SessionId) => Effect.Effect<void, ClientError>
  /** Ends all sessions of this subject but this one, and returns how many there were. */
  readonly revokeOtherSessions: Effect.Effect<number, ClientError>
  /** Lists the pairing links that can still be redeemed. */
  readonly links: Effect.Effect<ReadonlyArray<PairingLinkView>, ClientError>
  /** Makes a link that lets another device in. */
  readonly issueLink: (options?: LinkOptions) => Effect.Effect<IssuedLink, ClientError>
  /** Takes a link back before it is redeemed. */
  readonly revokeLink: (id: string) => Effect.Effect<void, ClientError>
}>()("@sallyport/client/Access") {}

const logoutPath = HttpApiClient.urlBuilder(SallyportApi).session.logout()
const responseMode = "response-only"
const limit = Duration.seconds(30)

const Nothing = Schema.Null
const Sessions = Schema.Struct({ sessions: Schema.Array(SessionView) })
const Links = Schema.Struct({ links: Schema.Array(PairingLinkView) })
const NewLink = Schema.Struct({
  link: PairingLinkView,
  code: Schema.RedactedFromValue(Schema.String, { label: "pairing-code" })
})

const make = Effect.gen(function*() {
  const { anonymousHttpClient: anonymous, httpClient } = yield* Connection
  const credentials = yield* Credentials
  const api = yield* HttpApiClient.makeWith(SallyportApi, { httpClient })
  const open = yield* HttpApiClient.makeWith(SallyportApi, { httpClient: anonymous })
  const exchanging = yield* HttpApiClient.makeWith(SallyportApi, {
    httpClient: credentials.present(anonymous, Option.none())
  })
  const known = yield* SubscriptionRef.make(Option.none<typeof SessionState.Type>())
  // Counts the times at which the credential changed: what was asked before such a change is not remembered after it.
  let generation = 0

  const forget = Effect.suspend(() => {
    generation++
    return SubscriptionRef.set(known, Option.none())
  })

  const request = <S extends Schema.ConstraintDecoder<unknown>>(
    send: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown>,
    schema: S
  ): Effect.Effect<S["Type"], ClientError> =>
    Effect.mapError(Answer.call(send, schema, limit), (error) =>
      new ClientError({
        reason: error._tag === "Broken" ? error.answer ?? Answer.unreachable(error, 1) : error
      }))

  /** Does what needs a session; where the server turns it away, whoever asks next asks the server. */
  const guarded = <S extends Schema.ConstraintDecoder<unknown>>(
    send: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown>,
    schema: S
  ) => Effect.tapErrorTag(request(send, schema), "ClientError", (error) => isSignedOut(error) ? forget : Effect.void)

  const askState = request(api.session.state({ responseMode }), SessionState).pipe(
    // The server turns a token down that has ended, rather than to take its bearer for nobody. It is nobody all the same.
    Effect.catchIf(
      (error) => isSignedOut(error) && credentials.exchange === "token",
      () => request(open.session.state({ responseMode }), SessionState)
    )
  )

  const refresh: Effect.Effect<typeof SessionState.Type, ClientError> = Effect.gen(function*() {
    while (true) {
      const asked = generation
      const state = yield* askState
      if (asked !== generation) continue
      yield* SubscriptionRef.set(known, Option.some(state))
      return state
    }
  }).pipe(Effect.withSpan("Access.refresh"))

  const redeem = Effect.fnUntraced(function*({ code, label, scopes }: PairOptions) {
    if (credentials.exchange === "cookie") {
      yield* request(
        api.session.bootstrap({
          payload: { credential: code, ...(label === undefined ? {} : { label }) },
          responseMode
        }),
        Schema.Struct({ session: SessionView })
      )
      return
    }
    const { access_token, token_type } = yield* request(
      exchanging.session.token({
        payload: {
          grant_type: tokenExchange,
          subject_token: code,
          subject_token_type: bootstrapTokenType,
          ...(scopes === undefined ? {} : { scope: scopes.join(" ") })
        },
        responseMode
      }),
      TokenResponse
    )
    if (token_type !== credentials.tokenType) {
      return yield* new ClientError({
        reason: new UnexpectedAnswer({
          status: 200,
          code: null,
          message: `The server gave a ${token_type} token where one of the type ${credentials.tokenType} was asked for`
        })
      })
    }
    yield* credentials.keep(access_token).pipe(
      // A session that nobody can use any more is better ended than left to expire.
      Effect.tapError(() =>
        Effect.ignore(
          credentials.present(anonymous, Option.some(access_token)).execute(HttpClientRequest.post(logoutPath))
        )
      ),
      Effect.mapError((reason) => new ClientError({ reason }))
    )
  })

  return Access.of({
    state: Effect.flatMap(
      SubscriptionRef.get(known),
      Option.match({ onNone: () => refresh, onSome: (state) => Effect.succeed(state) })
    ),
    refresh,
    changes: SubscriptionRef.changes(known),
    pair: Effect.fn("Access.pair")(function*(options) {
      // Forgotten before and after, and also where it fails: the answer may be lost and the cookie be there.
      yield* Effect.ensuring(redeem(options), forget)
      yield* Effect.ignore(refresh)
    }),
    logout: Effect.gen(function*() {
      yield* guarded(api.session.logout({ responseMode }), Nothing).pipe(
        Effect.catchIf(isSignedOut, () => Effect.void)
      )
      yield* Effect.ensuring(
        Effect.mapError(credentials.forget, (reason) => new ClientError({ reason })),
        forget
      )
    }).pipe(Effect.withSpan("Access.logout")),
    sessions: Effect.map(
      guarded(api.session.list({ responseMode }), Sessions),
      ({ sessions }) => sessions
    ).pipe(Effect.withSpan("Access.sessions")),
    revokeSession: Effect.fn("Access.revokeSession")(function*(id) {
      yield* guarded(api.session.revoke({ payload: { id: id }, responseMode }), Nothing)
    }),
    revokeOtherSessions: Effect.map(
      guarded(api.session.revokeOthers({ responseMode }), Schema.Struct({ revoked: Schema.Natural })),
      ({ revoked }) => revoked
    ).pipe(Effect.withSpan("Access.revokeOtherSessions")),
    links: Effect.map(
      guarded(api.pairing.list({ responseMode }), Links),
      ({ links }) => links
    ).pipe(Effect.withSpan("Access.links")),
    issueLink: Effect.fn("Access.issueLink")(function*(options) {
      const { kind, label, lifetime, proofKeyThumbprint, scopes } = options ?? {}
      return yield* guarded(
        api.pairing.issue({
          payload: {
            ...(kind === undefined ? {} : { kind }),
            ...(label === undefined ? {} : { label }),
            ...(proofKeyThumbprint === undefined ? {} : { proofKeyThumbprint }),
            ...(scopes === undefined ? {} : { scopes }),
            ...(lifetime === undefined ? {} : { lifetimeSeconds: Math.ceil(Duration.toSeconds(lifetime)) })
          },
          responseMode
        }),
        NewLink
      )
    }),
    revokeLink: Effect.fn("Access.revokeLink")(function*(id) {
      yield* guarded(api.pairing.revoke({ payload: { id }, responseMode }), Nothing)
    })
  })
})

const isSignedOut = ({ reason }: ClientError): boolean =>
  reason._tag === "Unauthorized" && reason.code === "unauthorized"

/**
 * Provides who is signed in at the server of the connection.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Access, never, Connection | Credentials> = Layer.effect(Access, make)
