/**
 * Signs this device in and manages access to the account: pairing, the session's state, the other sessions, pairing
 * links.
 *
 * Only pairing is retried, if its answer is lost: its attempt key makes that safe. For the other requests the caller
 * knows better whether they still matter.
 */
import { AccessHistory } from "@sallyport/contract/AccessGroup"
import {
  EndedView,
  ListedSessionView,
  NextPage,
  PairingLinkView,
  PairingPreview,
  SessionView
} from "@sallyport/contract/AccessSchemas"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { bootstrapTokenType, SessionState, tokenExchange, TokenResponse } from "@sallyport/contract/SessionGroup"
import type { AccessEventKind } from "@sallyport/core/access/AccessEvent"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import type { SessionId } from "@sallyport/core/access/Session"
import * as Context from "effect/Context"
import { SecureRandom } from "effect/crypto/SecureRandom"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { ClientError, UnexpectedAnswer } from "./ClientError.ts"
import { Connection } from "./Connection.ts"
import { Credentials } from "./Credentials.ts"
import * as Answer from "./internal/answer.ts"
import { readPages } from "./internal/pages.ts"
import { type BudgetSettings, makeBudget, now } from "./internal/budget.ts"
import { ReconnectHints } from "./ReconnectHints.ts"

/**
 * Describes how a device pairs.
 *
 * @category options
 * @since 0.1.0
 */
export interface PairOptions {
  /** The code as a person typed it, in any case, with or without dashes; or the code from a pairing link's fragment. */
  readonly code: Redacted.Redacted
  /** The session's name in the list of sessions. For a token the server chooses the name. */
  readonly label?: string | undefined
  /**
   * What the session may do; by default all that the link grants. For tokens only: a cookie's session gets all of it.
   */
  readonly scopes?: ReadonlyArray<AccessScope> | undefined
}

/**
 * Describes a link that lets another device in.
 *
 * @category options
 * @since 0.1.0
 */
export interface LinkOptions {
  /** What the new device may do; by default all that this device may do. */
  readonly scopes?: ReadonlyArray<AccessScope> | undefined
  readonly label?: string | undefined
  /** `machine` makes a longer code, which is pasted rather than typed. */
  readonly kind?: "device" | "machine" | undefined
  /** The JWK thumbprint (RFC 7638) of the only key that can redeem the code. */
  readonly proofKeyThumbprint?: string | undefined
  /** How long the code can be redeemed, in whole seconds. By default the server's setting. */
  readonly lifetime?: Duration.Input | undefined
  /** How long the new session goes on without being used, in whole seconds. The server cuts it to this session's own. */
  readonly sessionLifetime?: Duration.Input | undefined
  /** How long after now the new session ends, however it is used, in whole seconds; cut as `sessionLifetime` is. */
  readonly sessionAbsoluteLifetime?: Duration.Input | undefined
}

/**
 * Describes a link with its code, which is returned only once.
 *
 * @category models
 * @since 0.1.0
 */
export interface IssuedLink {
  readonly link: PairingLinkView
  readonly code: Redacted.Redacted
}

/**
 * Provides pairing, the state of the session, and the list of sessions and links.
 *
 * @category services
 * @since 0.1.0
 */
export class Access extends Context.Service<Access, {
  /**
   * Returns whether this device is signed in. The server is asked once; the answer is kept until this client signs in
   * or out, or the server refuses the credential.
   */
  readonly state: Effect.Effect<typeof SessionState.Type, ClientError>
  /** Asks the server again, and keeps its answer. */
  readonly refresh: Effect.Effect<typeof SessionState.Type, ClientError>
  /** Emits the kept answer and every change of it; none while nothing is known. It sends no request itself. */
  readonly changes: Stream.Stream<Option.Option<typeof SessionState.Type>>
  /** Returns what a pairing code would give, without using it. A wrong code counts as an attempt. */
  readonly preview: (code: Redacted.Redacted) => Effect.Effect<PairingPreview, ClientError>
  /**
   * Exchanges a pairing code for a session, and keeps its credential. The kept state is dropped, and an older request
   * that answers later does not bring it back.
   *
   * **Details**
   *
   * If the answer is lost, the client asks again for up to a minute. It sends the same attempt key each time, so that the
   * server answers with the same session, and uses the code once. Pairing again with the same code joins the attempt.
   *
   * **Gotchas**
   *
   * If this fails with `Unreachable`, the code may be used up nevertheless. Pair again within a minute of the first
   * request; later, call `refresh` to find out whether this device is signed in, and if it is not, ask for a new link.
   */
  readonly pair: (options: PairOptions) => Effect.Effect<void, ClientError>
  /** Ends this session on the server, and forgets its credential. A session that had ended before is success. */
  readonly logout: Effect.Effect<void, ClientError>
  /** Lists this subject's sessions, or with the scope `access:manage` everyone's, page after page. */
  readonly sessions: Effect.Effect<ReadonlyArray<ListedSessionView>, ClientError>
  /** Gives a session's device a name, and returns the session. */
  readonly renameSession: (id: SessionId, label: string) => Effect.Effect<SessionView, ClientError>
  /**
   * Asks for more scopes for this session, such as those that an answer named which was `Forbidden`. The owner has 10
   * minutes to grant them, or some of them; the token stays. Returns the session: `scopeRequest` is null if nothing lacks.
   * `refresh` shows what came of it: the scopes, or a `scopeRequest` that is null without them.
   */
  readonly requestScopes: (scopes: ReadonlyArray<AccessScope>) => Effect.Effect<SessionView, ClientError>
  /**
   * Answers a session that asks for more scopes: grants those that it asks for, or fewer; none turn it away. `requestedAt`
   * is that of the request that the person saw. If the session has asked for something else since, it is a `Conflict`.
   */
  readonly answerScopes: (id: SessionId, answer: {
    readonly requestedAt: DateTime.Utc
    readonly scopes: ReadonlyArray<AccessScope>
  }) => Effect.Effect<SessionView, ClientError>
  /**
   * Ends another session with its open links, and if asked for with all that it let in, through every generation.
   * Ending this session is a `Conflict`; use `logout` for it.
   */
  readonly revokeSession: (id: SessionId, options?: {
    readonly descendants?: boolean | undefined
  }) => Effect.Effect<EndedView, ClientError>
  /** Ends all sessions of this subject but this one. */
  readonly revokeOtherSessions: Effect.Effect<EndedView, ClientError>
  /** Lists this subject's pairing links that can still be redeemed, or with `access:manage` everyone's, page after page. */
  readonly links: Effect.Effect<ReadonlyArray<PairingLinkView>, ClientError>
  /**
   * Reads what has happened, the newest first: of a kind, or with a text in it, if these are given; from the `next` of the
   * page before on. A page may be empty and have a next one.
   */
  readonly history: (options?: {
    readonly before?: number | undefined
    readonly kind?: AccessEventKind | undefined
    readonly search?: string | undefined
  }) => Effect.Effect<typeof AccessHistory.Type, ClientError>
  /** Creates a link that lets another device in. */
  readonly issueLink: (options?: LinkOptions) => Effect.Effect<IssuedLink, ClientError>
  /** Revokes a link before it is redeemed. */
  readonly revokeLink: (id: string) => Effect.Effect<void, ClientError>
}>()("@sallyport/client/Access") {}

const logoutPath = HttpApiClient.urlBuilder(SallyportApi).session.logout()
const responseMode = "response-only"

/** How often pairing is asked again. The last request leaves within the minute in which the server answers it. */
const pairing: BudgetSettings = {
  maxAttempts: 5,
  maxDuration: 45_000,
  baseDelay: 500,
  maxDelay: 4_000,
  maxAttemptDuration: Duration.toMillis(Answer.limit)
}

const Nothing = Schema.Null
const Sessions = Schema.Struct({ sessions: Schema.Array(ListedSessionView), next: NextPage })
const Links = Schema.Struct({ links: Schema.Array(PairingLinkView), next: NextPage })

const NewLink = Schema.Struct({
  link: PairingLinkView,
  code: Schema.RedactedFromValue(Schema.String, { label: "pairing-code" })
})

const make = Effect.gen(function*() {
  const { anonymousHttpClient: anonymous, httpClient } = yield* Connection
  const credentials = yield* Credentials
  const random = yield* SecureRandom
  const hints = yield* ReconnectHints
  const api = yield* HttpApiClient.makeWith(SallyportApi, { httpClient })
  const open = yield* HttpApiClient.makeWith(SallyportApi, { httpClient: anonymous })
  const exchanging = yield* HttpApiClient.makeWith(SallyportApi, {
    httpClient: credentials.present(anonymous, Option.none())
  })
  const known = yield* SubscriptionRef.make(Option.none<typeof SessionState.Type>())
  // Counts the changes of the credential: an answer to a request from before a change is not kept after it.
  let generation = 0

  const forget = Effect.suspend(() => {
    generation++
    return SubscriptionRef.set(known, Option.none())
  })

  // The attempt that may have used up its code without an answer.
  let attempt: { readonly code: Redacted.Redacted; readonly key: Redacted.Redacted } | undefined
  const attemptKey = Effect.fnUntraced(function*(code: Redacted.Redacted) {
    if (attempt !== undefined && Redacted.value(attempt.code) === Redacted.value(code)) return attempt.key
    const key = Redacted.make(Base64Url.encode(yield* random.randomBytes(16)), { label: "attempt-key" })
    attempt = { code, key }
    return key
  })

  /** Sends a request to redeem a code, and again if its answer is lost. */
  const redemption = Effect.fnUntraced(function*<S extends Schema.ConstraintDecoder<unknown>>(
    send: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown>,
    schema: S
  ): Effect.fn.Return<S["Type"], ClientError> {
    const budget = makeBudget(pairing, hints)
    while (true) {
      const startedAt = yield* now
      const answer = yield* Effect.result(Answer.call(send, schema, Answer.limit))
      if (Result.isSuccess(answer)) {
        attempt = undefined
        return answer.success
      }
      const { failure } = answer
      if (failure._tag !== "Broken" || failure.answer !== undefined) {
        return yield* new ClientError({ reason: Answer.lastFailure(failure) })
      }
      yield* Effect.mapError(budget.spend(failure, startedAt), (reason) => new ClientError({ reason }))
    }
  })

  /**
   * Sends a request that needs a session. If the server refuses it, the next reader of the state asks the server again.
   */
  const guarded = <S extends Schema.ConstraintDecoder<unknown>>(
    send: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown>,
    schema: S
  ) =>
    Effect.tapErrorTag(
      Answer.request(send, schema),
      "ClientError",
      (error) => isSignedOut(error) ? forget : Effect.void
    )

  const askState = Answer.request(api.session.state({ responseMode }), SessionState).pipe(
    // The server refuses an expired token with an error instead of answering "signed out". It means the same here.
    Effect.catchIf(
      (error) => isSignedOut(error) && credentials.exchange === "token",
      () => Answer.request(open.session.state({ responseMode }), SessionState)
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
    const key = yield* attemptKey(code)
    if (credentials.exchange === "cookie") {
      yield* redemption(
        api.session.bootstrap({
          payload: { credential: code, attemptKey: key, ...(label === undefined ? {} : { label }) },
          responseMode
        }),
        Schema.Struct({ session: SessionView })
      )
      return
    }
    const answer = yield* redemption(
      exchanging.session.token({
        payload: {
          grant_type: tokenExchange,
          subject_token: code,
          subject_token_type: bootstrapTokenType,
          attempt_key: key,
          ...(scopes === undefined ? {} : { scope: scopes.join(" ") })
        },
        responseMode
      }),
      TokenResponse
    )
    const { access_token, token_type } = answer
    if (token_type !== credentials.tokenType) {
      return yield* new ClientError({
        reason: new UnexpectedAnswer({
          status: 200,
          code: null,
          message:
            `The server issued a ${token_type} token, but a ${credentials.tokenType} token was requested; check how the server is configured`
        })
      })
    }
    yield* credentials.keep(answer).pipe(
      // A session without a holder is better ended than left to expire.
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
    preview: Effect.fn("Access.preview")((code) =>
      Answer.request(exchanging.session.preview({ payload: { credential: code }, responseMode }), PairingPreview)
    ),
    pair: Effect.fn("Access.pair")(function*(options) {
      // The state is forgotten before and after, and also if it fails: the answer may be lost although the cookie was
      // set.
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
    sessions: readPages((query) =>
      Effect.map(
        guarded(api.session.list({ query, responseMode }), Sessions),
        ({ next, sessions }) => [sessions, next] as const
      )
    ).pipe(Effect.withSpan("Access.sessions")),
    renameSession: Effect.fn("Access.renameSession")((id, label) =>
      guarded(api.session.rename({ params: { id }, payload: { label }, responseMode }), SessionView)
    ),
    requestScopes: Effect.fn("Access.requestScopes")((scopes) =>
      guarded(api.session.requestScopes({ payload: { scopes }, responseMode }), SessionView)
    ),
    answerScopes: Effect.fn("Access.answerScopes")((id, payload) =>
      guarded(api.session.answerScopes({ params: { id }, payload, responseMode }), SessionView)
    ),
    revokeSession: Effect.fn("Access.revokeSession")(function*(id, options) {
      const descendants = options?.descendants
      return yield* guarded(
        api.session.revoke({ payload: { id, ...(descendants === undefined ? {} : { descendants }) }, responseMode }),
        EndedView
      )
    }),
    revokeOtherSessions: guarded(api.session.revokeOthers({ responseMode }), EndedView).pipe(
      Effect.withSpan("Access.revokeOtherSessions")
    ),
    links: readPages((query) =>
      Effect.map(
        guarded(api.pairing.list({ query, responseMode }), Links),
        ({ links, next }) => [links, next] as const
      )
    ).pipe(Effect.withSpan("Access.links")),
    history: Effect.fn("Access.history")(function*({ before, kind, search } = {}) {
      return yield* guarded(
        api.access.history({
          query: {
            ...(before === undefined ? {} : { before: String(before) }),
            ...(kind === undefined ? {} : { kind }),
            ...(search === undefined ? {} : { search })
          },
          responseMode
        }),
        AccessHistory
      )
    }),
    issueLink: Effect.fn("Access.issueLink")(function*(options) {
      const { kind, label, lifetime, proofKeyThumbprint, scopes, sessionAbsoluteLifetime, sessionLifetime } = options ??
        {}
      return yield* guarded(
        api.pairing.issue({
          payload: {
            ...(kind === undefined ? {} : { kind }),
            ...(label === undefined ? {} : { label }),
            ...(proofKeyThumbprint === undefined ? {} : { proofKeyThumbprint }),
            ...(scopes === undefined ? {} : { scopes }),
            ...(lifetime === undefined ? {} : { lifetimeSeconds: Math.ceil(Duration.toSeconds(lifetime)) }),
            ...(sessionLifetime === undefined
              ? {}
              : { sessionLifetimeSeconds: Math.ceil(Duration.toSeconds(sessionLifetime)) }),
            ...(sessionAbsoluteLifetime === undefined
              ? {}
              : { sessionAbsoluteLifetimeSeconds: Math.ceil(Duration.toSeconds(sessionAbsoluteLifetime)) })
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
 * Provides access to the server of the connection.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Access, never, Connection | Credentials | SecureRandom> = Layer.effect(Access, make)
