/**
 * Issues and redeems one-time credentials: pairing links that an owner hands to a new device, and the credential that a
 * desktop application seeds into the backend it starts.
 */
import { AccessRepository } from "./AccessRepository.ts"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as AccessScope from "./AccessScope.ts"
import { AuthPolicy, type BootstrapMethod } from "./AuthPolicy.ts"
import {
  anyKey,
  endOf,
  type PairingLinkRow,
  refusal,
  type RefusalReason,
  toPairingLink
} from "./BootstrapCredentialRepository.ts"
import * as Attempts from "./internal/attempts.ts"
import {
  AlreadySeeded,
  type BootstrapCredentialError,
  fail,
  InvalidCredential,
  InvalidInput,
  IssuerEnded,
  LabelNotAllowed,
  LifetimeOutOfBounds,
  LinkNotFound,
  MalformedCode,
  MethodNotOffered,
  ScopeNotGranted,
  ScopeNotHeld,
  SessionLifetimeOutOfBounds,
  SubjectNotAllowed,
  TooManyAttempts,
  TooManyLetIn,
  TooManyOpenLinks,
  unavailable,
  WeakCredential
} from "./internal/bootstrapErrors.ts"
import {
  type InvalidBootstrapCredentialOptions,
  type Options,
  type Settings,
  settings
} from "./internal/bootstrapOptions.ts"
import * as CredentialDigest from "./internal/credentialDigest.ts"
import * as Lifetimes from "./internal/lifetimes.ts"
import * as Input from "../Input.ts"
import * as Metrics from "../Metrics.ts"
import * as Text from "../Text.ts"
import { nameRule, scopesRule, subjectProblem } from "./internal/inputRules.ts"
import * as PairingCode from "./PairingCode.ts"
import type { PairingLink } from "./PairingLink.ts"
import type * as SecretStore from "../secrets/SecretStore.ts"
import { actorOf, type Principal, reachOf } from "./Principal.ts"
import {
  type Device,
  endlessSessionId,
  type Session,
  type SessionClient,
  type SessionId,
  SessionMethod
} from "./Session.ts"
import {
  type IssuedSession,
  type KeyProof,
  SessionCredentialError,
  SessionCredentialService
} from "./SessionCredentialService.ts"
import * as Sweeper from "../Sweeper.ts"

export {
  AlreadySeeded,
  BootstrapCredentialError,
  BootstrapStoreUnavailable,
  InvalidCredential,
  InvalidInput,
  IssuerEnded,
  LabelNotAllowed,
  LifetimeOutOfBounds,
  LinkNotFound,
  MalformedCode,
  MethodNotOffered,
  ScopeNotGranted,
  ScopeNotHeld,
  SessionLifetimeOutOfBounds,
  SubjectNotAllowed,
  TooManyAttempts,
  TooManyLetIn,
  TooManyOpenLinks,
  WeakCredential
} from "./internal/bootstrapErrors.ts"
export { type AttemptLimit, InvalidBootstrapCredentialOptions, type Options } from "./internal/bootstrapOptions.ts"

// -----------------------------------------------------------------------------
// Models
// -----------------------------------------------------------------------------

/**
 * Describes the redemption of a code.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedeemOptions<E, R> {
  /** The code as a person enters it, the pairing address with it, or a seeded credential. */
  readonly credential: Redacted.Redacted
  /** How the session's token will be presented. */
  readonly method: SessionMethod
  /** What the session may do; all that the link grants if absent. */
  readonly scopes?: ReadonlyArray<AccessScope.AccessScope> | undefined
  readonly device?: Partial<typeof Device.Type> | undefined
  /**
   * Proves the key that the session will be bound to. It is asked for only if the code exists, and spent only if nothing
   * else is wrong, so that no proof of a stranger makes the store remember anything.
   */
  readonly proof?: Effect.Effect<KeyProof<E>, E, R> | undefined
  /**
   * Names the attempt: a random value that the caller makes for it, and gives again if the answer is lost. The key of a
   * proof does it too.
   */
  readonly attemptKey?: Redacted.Redacted | undefined
  /** Whether the token gets the form of a machine's: see `IssueOptions` of the sessions. */
  readonly machine?: boolean | undefined
  /** Where the attempt comes from: the address of a client. One without a source counts in total only. */
  readonly source?: string | undefined
  /** The ways in that are open, as a policy has them; both if absent. Another one is {@link InvalidCredential}. */
  readonly methods?: ReadonlyArray<BootstrapMethod> | undefined
  /** The session that the device has had until now, which ends with the redemption. */
  readonly replaces?: SessionId | undefined
  /** The program that the code was issued to (RFC 8628): only it refreshes and revokes the tokens that it gets. */
  readonly client?: SessionClient | undefined
}

/** Returns how long the session of a link goes on unused. The operator alone may say more than the setting does. */
const sessionLifetime = (link: PairingLinkRow, setting: Duration.Duration): Duration.Duration => {
  if (link.sessionLifetimeMillis === null) return setting
  const own = Duration.millis(link.sessionLifetimeMillis)
  return link.issuedBy === null ? own : Duration.min(own, setting)
}

/** For how long an attempt that is made again is given what it got before. */
const repeatMillis = 60_000

/**
 * Describes what a code would give to who redeems it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Preview {
  readonly subject: string
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
  readonly label: string | null
  /** How long the session would go on without being used. */
  readonly lifetime: Duration.Duration
  /** The end of the session that no use moves, if the link has one. */
  readonly sessionEndsAt: DateTime.Utc | null
  /** Until when the code can be redeemed. */
  readonly expiresAt: DateTime.Utc
}

const checkInput = Input.check((problem) => fail(new InvalidInput(problem)))

const issuerRules = {
  issuedBy: Input.required({
    is: (by) => by === "operator" || Predicate.hasProperty(by, "subject"),
    expected: `"operator", or the session that issues the link`
  })
}

const credentialRules = { credential: Input.required(Input.redacted) }

const redeemRules = {
  method: Input.required(Input.oneOf(SessionMethod)),
  scopes: scopesRule,
  replaces: Input.key
}

const linkRules = {
  scopes: Input.required({
    is: (scopes) => scopes === "all" || scopesRule.is(scopes),
    expected: `"all", or ${scopesRule.expected}`
  }),
  kind: Input.oneOf(PairingCode.Kind),
  uses: Input.count,
  proofKeyThumbprint: Input.key
} satisfies Readonly<Record<string, Input.Rule>>

/**
 * Names the subject of a link whose issuer names none: the one owner of a personal server.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultSubject = "owner"

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/**
 * Provides one-time credentials: how they are made, and how one is turned into a session.
 *
 * **Example** (Pairing a device)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { BootstrapCredentialService, Repositories, SecretStore, SessionCredentialService } from "@sallyport/core"
 * import { Console, Effect, Layer, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const pairing = yield* BootstrapCredentialService.BootstrapCredentialService
 *   const { code } = yield* pairing.issue({ issuedBy: "operator", scopes: ["runs:read"] })
 *   const { session } = yield* pairing.redeem({ credential: code, method: "bearer-access-token" })
 *   yield* Console.log(session.subject, session.scopes)
 *   // => owner [ 'runs:read' ]
 *   const mistyped = { credential: Redacted.make("mistyped"), method: "bearer-access-token" } as const
 *   const { reason } = yield* Effect.flip(pairing.redeem(mistyped))
 *   yield* Console.log(reason._tag)
 *   // => MalformedCode
 * })
 *
 * const Pairing = Layer.merge(BootstrapCredentialService.layer, SessionCredentialService.layer).pipe(
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
 *   Layer.provide(NodeCrypto.layer)
 * )
 *
 * Effect.runPromise(Effect.provide(program, Pairing))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class BootstrapCredentialService extends Context.Service<BootstrapCredentialService, {
  /**
   * Makes a link and returns its code, which is shown here once and stored nowhere. Fails with {@link ScopeNotHeld} if
   * a session hands on more than it holds; the operator holds the whole vocabulary. Fails with {@link SubjectNotAllowed}
   * if a session names another subject than its own, with {@link LabelNotAllowed}, or with {@link MethodNotOffered}
   * if there is an `AuthPolicy` in the context of the layer, and it takes no pairing links.
   *
   * A link that a session issues ends with that session: it lasts no longer than the session would without further use, and
   * fails with {@link IssuerEnded} if the session has ended. A session has a bounded number of open links, past which this
   * fails with {@link TooManyOpenLinks}, and one that has let in too many with {@link TooManyLetIn}. The link of a session
   * that is bound to a key is bound as well: to the key given, or to whichever key the redeemer proves, unless the option
   * `unboundDelegation` is on.
   *
   * A session lets no other in for longer than itself: the lifetime and the absolute end of the new session are cut to its
   * own, and the lifetime to the setting of the service of sessions.
   */
  readonly issue: (options: {
    readonly issuedBy: Principal
    /** `all` is all that the issuer holds; for the operator, the vocabulary that the layer was built with. */
    readonly scopes: ReadonlyArray<AccessScope.AccessScope> | "all"
    /** Whom the new session belongs to, for the operator to say; the issuing session's subject, or {@link defaultSubject}. */
    readonly subject?: string | undefined
    readonly label?: string | undefined
    readonly kind?: PairingCode.Kind | undefined
    readonly lifetime?: Duration.Input | undefined
    /** How long the session goes on without being used; what the service of sessions has as its `lifetime` if absent. */
    readonly sessionLifetime?: Duration.Input | undefined
    /** How long after now the session ends, however it is used. */
    readonly sessionAbsoluteLifetime?: Duration.Input | undefined
    /** How often the link can be redeemed: a whole number from 1. Default 1. */
    readonly uses?: number | undefined
    readonly proofKeyThumbprint?: string | undefined
  }) => Effect.Effect<
    { readonly code: Redacted.Redacted; readonly link: PairingLink },
    BootstrapCredentialError
  >
  /**
   * Redeems a code or a seeded credential for a session. One atomic step checks everything, takes one use, looks once more
   * whether the client with the proven key may come in, ends the session that is replaced, and begins the new one: if it
   * fails, the code is unspent. The same attempt made again within a minute gets the same session and the same tokens.
   *
   * Fails with {@link MalformedCode} before the store is asked, with {@link InvalidCredential}, or with
   * {@link ScopeNotGranted}; a refusal takes no use. Wrong credentials are counted, by source and in total, and past the
   * limit each is answered {@link TooManyAttempts}. A mistyped code doesn't count, and a right one is never refused for
   * the wrong ones before it.
   */
  readonly redeem: <E = never, R = never>(
    options: RedeemOptions<E, R>
  ) => Effect.Effect<IssuedSession, BootstrapCredentialError | E, SessionCredentialService | R>
  /**
   * Tells the holder of a code or a seeded credential what it would give, without using it. It is refused as a redemption
   * is, and counts as one: a wrong code is an attempt. A code that is bound to one key is {@link InvalidCredential} here: it
   * says nothing to a caller without that key.
   */
  readonly preview: (options: {
    readonly credential: Redacted.Redacted
    /** Where the attempt comes from, such as a client's address. One without a source counts in total only. */
    readonly source?: string | undefined
    /** The ways in that are open, as a policy has them; both if absent. Another one is {@link InvalidCredential}. */
    readonly methods?: ReadonlyArray<BootstrapMethod> | undefined
  }) => Effect.Effect<Preview, BootstrapCredentialError, SessionCredentialService>
  /**
   * Returns links that can still be redeemed, all or those for a subject, newest first, without their codes; at most
   * `limit`, by default 200, after a link if one is given.
   */
  readonly list: (options?: {
    readonly subject?: string | undefined
    readonly after?: Pick<PairingLink, "createdAt" | "id"> | undefined
    readonly limit?: number | undefined
  }) => Effect.Effect<ReadonlyArray<PairingLink>, BootstrapCredentialError>
  /**
   * Revokes a link. Fails with {@link LinkNotFound} if it can't be redeemed anyway, or is for another subject than that of a
   * session without the scope `access:manage`.
   */
  readonly revoke: (id: string, by: Principal) => Effect.Effect<void, BootstrapCredentialError>
  /**
   * Makes a credential that the host chose redeemable once, as a desktop application does for the window it opens.
   *
   * Waits for `ready`, which completes when the server accepts connections, before its lifetime starts: a slow start does
   * not eat it up. Fails with {@link AlreadySeeded} if the same credential was seeded before, spent or not, with
   * {@link WeakCredential} if it is short, with {@link MalformedCode} if it looks like a mistyped code, and with
   * {@link MethodNotOffered} if there is an `AuthPolicy` in the context of the layer, and it takes no seeded credentials.
   */
  readonly seed: (options: {
    readonly credential: Redacted.Redacted
    /** `all` is the vocabulary that the layer was built with. */
    readonly scopes: ReadonlyArray<AccessScope.AccessScope> | "all"
    readonly ready: Effect.Effect<void>
    readonly subject?: string | undefined
    readonly label?: string | undefined
    readonly lifetime?: Duration.Input | undefined
  }) => Effect.Effect<PairingLink, BootstrapCredentialError>
}>()("@sallyport/core/access/BootstrapCredentialService") {}

// -----------------------------------------------------------------------------
// Layers
// -----------------------------------------------------------------------------

/**
 * Creates links without storing them, for callers that insert the row in their own transaction: the decision that it
 * follows from. Their codes are for machines, and {@link BootstrapCredentialService}'s `redeem` takes them.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeGrants = Effect.gen(function*() {
  const random = yield* SecureRandom.SecureRandom
  const digestOf = yield* CredentialDigest.make
  return Effect.fnUntraced(function*(grant: {
    readonly scopes: ReadonlyArray<AccessScope.AccessScope>
    readonly subject: string
    readonly label: string | null
    readonly proofKeyThumbprint: string
    readonly createdBy: string
    readonly lifetimeMillis: number
  }) {
    const code = yield* Effect.provideService(PairingCode.generate("machine"), SecureRandom.SecureRandom, random)
    const text = Option.getOrThrow(CredentialDigest.canonical(Redacted.value(code)))
    const nowMillis = yield* Clock.currentTimeMillis
    const row: PairingLinkRow = {
      id: yield* random.uuidV7(),
      codeDigest: yield* digestOf(text),
      label: grant.label,
      subject: grant.subject,
      scopes: grant.scopes,
      proofKeyThumbprint: grant.proofKeyThumbprint,
      remainingUses: 1,
      createdBy: grant.createdBy,
      issuedBy: null,
      sessionLifetimeMillis: null,
      sessionEndsAtMillis: null,
      createdAtMillis: nowMillis,
      expiresAtMillis: nowMillis + grant.lifetimeMillis,
      revokedAtMillis: null
    }
    return { code, row }
  })
})

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements =
  | AccessRepository
  | SecretStore.SecretStore
  | SecureRandom.SecureRandom
  | Mac.Mac

const build = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<
  BootstrapCredentialService["Service"],
  SecretStore.SecretStoreError,
  Requirements
> {
  const repository = (yield* AccessRepository).links
  const random = yield* SecureRandom.SecureRandom
  const vocabulary = yield* AccessScope.Vocabulary
  const { defaultMillis, maximumMillis, maxLetIn, maxOpen, perSource, total, unboundDelegation } = settings
  const attempts = yield* Attempts.make("bootstrap", { perSource, total })
  const policy = yield* Effect.serviceOption(AuthPolicy)
  const digestOf = yield* CredentialDigest.make

  const lifetimeMillis = (lifetime: Duration.Input | undefined): Effect.Effect<number, BootstrapCredentialError> => {
    const requestedMillis = Math.round(Duration.toMillis(Option.getOrElse(
      lifetime === undefined ? Option.some(Duration.millis(defaultMillis)) : Duration.fromInput(lifetime),
      () => Duration.zero
    )))
    return requestedMillis > 0 && requestedMillis <= maximumMillis
      ? Effect.succeed(requestedMillis)
      : Effect.fail(fail(new LifetimeOutOfBounds({ requestedMillis, maximumMillis })))
  }

  /** Reads how long a session is asked to last; null if the issuer doesn't say. */
  const sessionMillis = (
    lifetime: Duration.Input | undefined
  ): Effect.Effect<number | null, BootstrapCredentialError> => {
    if (lifetime === undefined) return Effect.succeed(null)
    const millis = Lifetimes.toMillis(lifetime)
    return millis === undefined ? Effect.fail(fail(new SessionLifetimeOutOfBounds())) : Effect.succeed(millis)
  }

  const insert = Effect.fnUntraced(function*(link: {
    readonly codeDigest: string
    readonly label: string | undefined
    readonly subject: string
    readonly scopes: ReadonlyArray<AccessScope.AccessScope>
    readonly proofKeyThumbprint: string | undefined
    readonly uses: number
    readonly actor: string
    readonly issuer: Session | undefined
    readonly lifetimeMillis: number
    readonly sessionLifetimeMillis: number | null
    readonly sessionAbsoluteMillis: number | null
  }) {
    const nowMillis = yield* Clock.currentTimeMillis
    const { issuer } = link
    const sessionEndsAtMillis = Lifetimes.earliest(
      link.sessionAbsoluteMillis === null ? null : nowMillis + link.sessionAbsoluteMillis,
      issuer?.absoluteExpiresAt?.epochMilliseconds ?? null
    )
    const row: PairingLinkRow = {
      id: yield* random.uuidV7(),
      codeDigest: link.codeDigest,
      label: link.label ?? null,
      subject: link.subject,
      scopes: link.scopes,
      proofKeyThumbprint: link.proofKeyThumbprint ?? null,
      remainingUses: link.uses,
      createdBy: link.actor,
      issuedBy: issuer?.id ?? null,
      sessionLifetimeMillis: Lifetimes.earliest(
        link.sessionLifetimeMillis,
        issuer === undefined || issuer.lifetime === null ? null : Duration.toMillis(issuer.lifetime)
      ),
      sessionEndsAtMillis,
      createdAtMillis: nowMillis,
      // A link that a session issued ends with it, and a session that goes on unused ends then at the earliest.
      expiresAtMillis: Math.min(
        nowMillis + link.lifetimeMillis,
        issuer?.expiresAt.epochMilliseconds ?? Infinity,
        sessionEndsAtMillis ?? Infinity
      ),
      revokedAtMillis: null
    }
    const outcome = yield* Effect.mapError(
      repository.insert(row, { actor: link.actor, nowMillis }, maxOpen, maxLetIn),
      unavailable
    )
    switch (outcome) {
      case "inserted":
        return Option.some(toPairingLink(row))
      case "digest-exists":
        return Option.none<PairingLink>()
      case "issuer-ended":
        return yield* fail(new IssuerEnded())
      case "too-many-open":
        return yield* fail(new TooManyOpenLinks({ maximum: maxOpen }))
      case "too-many-let-in":
        return yield* fail(new TooManyLetIn({ maximum: maxLetIn }))
    }
  })

  /**
   * Refuses a code and counts the attempt. The log has the reason; the caller is told how the link of the code, if there is
   * one, has ended, if that was not long ago.
   */
  const refuse = Effect.fnUntraced(function*(
    codeDigest: string | undefined,
    reason: RefusalReason | "method-not-offered" | "tokens-changed",
    { scopes, source }: Pick<RedeemOptions<unknown, unknown>, "scopes" | "source">
  ): Effect.fn.Return<never, BootstrapCredentialError> {
    yield* Effect.annotateLogs(Effect.logInfo("Refused a bootstrap credential"), { reason })
    const exceeded = reason === "scope-not-granted"
      ? Option.none()
      : yield* Effect.mapError(attempts.count(source), unavailable)
    yield* Metrics.pairingAttempts(1, { result: Option.isSome(exceeded) ? "too-many-attempts" : reason })
    if (reason === "scope-not-granted") return yield* fail(new ScopeNotGranted({ requested: scopes ?? [] }))
    if (Option.isSome(exceeded)) {
      return yield* fail(new TooManyAttempts({ retryAfterMillis: exceeded.value }))
    }
    const nowMillis = yield* Clock.currentTimeMillis
    const row = codeDigest === undefined
      ? Option.none()
      : yield* Effect.mapError(repository.findByCodeDigest(codeDigest), unavailable)
    const ended = Option.flatMap(row, (row) => endOf(row, nowMillis))
    return yield* fail(new InvalidCredential(Option.isSome(ended) ? { ended: ended.value } : {}))
  })

  /** Returns a code in its one form, with its digest, if it has the form of one that the open ways in take. */
  const readOffered = Effect.fnUntraced(function*(
    { credential, methods, source }: Pick<RedeemOptions<unknown, unknown>, "credential" | "methods" | "source">
  ) {
    yield* checkInput(credentialRules, { credential })
    const text = CredentialDigest.canonical(Redacted.value(credential))
    if (Option.isNone(text)) {
      yield* Metrics.pairingAttempts(1, { result: "malformed" })
      return yield* fail(new MalformedCode())
    }
    const method: BootstrapMethod = text.value.startsWith("seed:") ? "seeded-credential" : "pairing-link"
    if (methods !== undefined && !methods.includes(method)) {
      return yield* refuse(undefined, "method-not-offered", { source })
    }
    return { text: text.value, codeDigest: yield* digestOf(text.value) }
  })

  /** Fails if the policy in force, or what people are to read of a link, rules it out. */
  const checkLink = (
    method: BootstrapMethod,
    subject: string,
    label: string | undefined
  ): Effect.Effect<void, BootstrapCredentialError> => {
    if (Option.isSome(policy) && !policy.value.bootstrapMethods.includes(method)) {
      return Effect.fail(fail(new MethodNotOffered({ method })))
    }
    const problem = subjectProblem(subject)
    if (problem !== undefined) return Effect.fail(fail(new SubjectNotAllowed({ problem })))
    return label === undefined || Text.isLine(label) ? Effect.void : Effect.fail(fail(new LabelNotAllowed()))
  }

  return BootstrapCredentialService.of({
    issue: Effect.fn("BootstrapCredentialService.issue")(function*(request) {
      yield* checkInput(issuerRules, request ?? {})
      const by = request.issuedBy
      const subject = request.subject ?? (by === "operator" ? defaultSubject : by.subject)
      if (by !== "operator" && subject !== by.subject) return yield* fail(new SubjectNotAllowed({ problem: "foreign" }))
      // The session under `unsafe-no-auth` has no row, and never ends.
      const issuer = by === "operator" || by.id === endlessSessionId ? undefined : by
      yield* checkLink("pairing-link", subject, request.label)
      yield* checkInput(linkRules, request)
      const held = by === "operator" ? vocabulary : by.scopes
      const scopes = request.scopes === "all" ? held : request.scopes
      const missing = AccessScope.missing(held, scopes)
      if (missing.length > 0) {
        const unknown = AccessScope.missing(vocabulary, missing)
        return yield* fail(new ScopeNotHeld(unknown.length > 0 ? { missing: unknown, vocabulary } : { missing }))
      }
      const millis = yield* lifetimeMillis(request.lifetime)
      const code = yield* PairingCode.generate(request.kind ?? "device").pipe(
        Effect.provideService(SecureRandom.SecureRandom, random)
      )
      const link = yield* insert({
        codeDigest: yield* digestOf(Option.getOrThrow(CredentialDigest.canonical(Redacted.value(code)))),
        label: request.label,
        subject,
        scopes,
        proofKeyThumbprint: request.proofKeyThumbprint ??
          (issuer === undefined || issuer.proofKeyThumbprint === null || unboundDelegation ? undefined : anyKey),
        uses: request.uses ?? 1,
        actor: actorOf(by),
        issuer,
        lifetimeMillis: millis,
        sessionLifetimeMillis: yield* sessionMillis(request.sessionLifetime),
        sessionAbsoluteMillis: yield* sessionMillis(request.sessionAbsoluteLifetime)
      })
      // Two equal codes of 75 random bits among the few that are open: not an outcome to have an error for.
      if (Option.isNone(link)) return yield* Effect.die(new Error("A fresh pairing code exists already"))
      return { code, link: link.value }
    }),
    redeem: Effect.fn("BootstrapCredentialService.redeem")(function*<E, R>(options: RedeemOptions<E, R>) {
      yield* checkInput(redeemRules, options ?? {})
      const { attemptKey, method, replaces } = options
      const sessions = yield* SessionCredentialService
      const { codeDigest, text } = yield* readOffered(options)
      const found = yield* Effect.mapError(repository.findByCodeDigest(codeDigest), unavailable)
      if (Option.isNone(found)) return yield* refuse(undefined, "unknown", options)
      const link = found.value
      const scopes = options.scopes ?? link.scopes

      /** Refuses what can be told to be wrong by now; a used link may have been so by this very attempt. */
      const check = Effect.fnUntraced(function*(
        proofKeyThumbprint: string | null,
        scopes: ReadonlyArray<AccessScope.AccessScope>
      ) {
        const nowMillis = yield* Clock.currentTimeMillis
        const reason = refusal(link, { scopes, proofKeyThumbprint, nowMillis })
        return reason === undefined || reason === "exhausted" ? reason : yield* refuse(codeDigest, reason, options)
      })
      // Who lacks the key does not learn what the link grants.
      yield* check(link.proofKeyThumbprint, [])
      const proof = options.proof === undefined ? undefined : yield* options.proof
      const proofKeyThumbprint = proof?.proofKeyThumbprint
      const isUsed = (yield* check(proofKeyThumbprint ?? null, scopes)) === "exhausted"
      const spend = proof === undefined ? Effect.void : proof.spend

      const attempt = attemptKey === undefined ? proofKeyThumbprint : Redacted.value(attemptKey)
      // The store has no code, so what it has is not enough to make the tokens again.
      const seed = attempt === undefined ? undefined : Redacted.make(
        JSON.stringify([text, attempt, method, proofKeyThumbprint ?? null, scopes])
      )
      const redemptionDigest = seed === undefined ? null : yield* digestOf(`redemption:${Redacted.value(seed)}`)
      return yield* sessions.issueBy(
        {
          subject: link.subject,
          scopes,
          method,
          proofKeyThumbprint,
          machine: options.machine,
          device: options.device,
          label: options.device?.label ?? link.label ?? undefined,
          lifetime: link.sessionLifetimeMillis === null ? undefined : sessionLifetime(link, sessions.lifetime),
          notAfter: link.sessionEndsAtMillis === null ? undefined : DateTime.makeUnsafe(link.sessionEndsAtMillis),
          link: { linkId: link.id, issuedBy: link.issuedBy },
          client: options.client,
          actor: link.createdBy,
          seed,
          replaces
        },
        Effect.fnUntraced(function*(row, change) {
          if (!isUsed) yield* spend
          const session = { ...row, redemptionDigest }
          const outcome = yield* Effect.mapError(
            repository.redeem({ codeDigest, session, repeatMillis, replaces }, change),
            unavailable
          )
          if (outcome._tag === "Refused") return yield* refuse(codeDigest, outcome.reason, options)
          if (outcome._tag === "Redeemed") return session
          if (isUsed) yield* spend
          return outcome.session
        })
      ).pipe(
        Effect.tap(() => Metrics.pairingAttempts(1, { result: "redeemed" })),
        Effect.catchIf(
          (error) => error instanceof SessionCredentialError,
          ({ reason }) =>
            reason._tag === "SessionStoreUnavailable"
              ? Effect.fail(unavailable(reason.cause))
              : reason._tag === "InvalidInput"
              ? Effect.fail(fail(new InvalidInput(reason)))
              : refuse(codeDigest, "tokens-changed", options)
        )
      )
    }),
    preview: Effect.fn("BootstrapCredentialService.preview")(function*(options) {
      const { lifetime } = yield* SessionCredentialService
      const { codeDigest } = yield* readOffered(options)
      const row = Option.getOrUndefined(yield* Effect.mapError(repository.findByCodeDigest(codeDigest), unavailable))
      const nowMillis = yield* Clock.currentTimeMillis
      // A link for any key tells as much as an unbound one does: its redeemer chooses the key.
      const proofKeyThumbprint = row?.proofKeyThumbprint === anyKey ? anyKey : null
      const reason = refusal(row, { scopes: [], proofKeyThumbprint, nowMillis })
      if (row === undefined) return yield* refuse(undefined, "unknown", { source: options.source })
      if (reason !== undefined) return yield* refuse(codeDigest, reason, { source: options.source })
      return {
        subject: row.subject,
        scopes: row.scopes,
        label: row.label,
        lifetime: sessionLifetime(row, lifetime),
        sessionEndsAt: row.sessionEndsAtMillis === null ? null : DateTime.makeUnsafe(row.sessionEndsAtMillis),
        expiresAt: DateTime.makeUnsafe(row.expiresAtMillis)
      }
    }),
    list: Effect.fn("BootstrapCredentialService.list")(function*(request) {
      const after = request?.after
      yield* checkInput({ subject: nameRule, limit: Input.count, after: Input.key }, {
        ...request,
        after: after?.id
      })
      const rows = yield* Effect.mapError(
        repository.list({
          nowMillis: yield* Clock.currentTimeMillis,
          subject: request?.subject,
          after: after === undefined
            ? undefined
            : { createdAtMillis: after.createdAt.epochMilliseconds, id: after.id },
          limit: request?.limit ?? 200
        }),
        unavailable
      )
      return rows.map(toPairingLink)
    }),
    revoke: Effect.fn("BootstrapCredentialService.revoke")(function*(id, by) {
      if (!Text.isKey(id)) return yield* fail(new LinkNotFound({ id }))
      const nowMillis = yield* Clock.currentTimeMillis
      const revoked = yield* Effect.mapError(
        repository.revoke(id, { actor: actorOf(by), nowMillis }, reachOf(by)),
        unavailable
      )
      if (!revoked) return yield* fail(new LinkNotFound({ id }))
    }),
    seed: Effect.fn("BootstrapCredentialService.seed")(function*(request) {
      yield* checkInput({ ...credentialRules, ...linkRules }, request ?? {})
      const text = Redacted.value(request.credential)
      if (text.length < CredentialDigest.seedMinimumLength || text.length > PairingCode.maxInputLength) {
        return yield* fail(new WeakCredential({ minimumLength: CredentialDigest.seedMinimumLength }))
      }
      const seed = CredentialDigest.canonical(text)
      if (Option.isNone(seed)) return yield* fail(new MalformedCode())
      const subject = request.subject ?? defaultSubject
      yield* checkLink("seeded-credential", subject, request.label)
      const millis = yield* lifetimeMillis(request.lifetime)
      const codeDigest = yield* digestOf(seed.value)
      yield* request.ready
      const link = yield* insert({
        codeDigest,
        label: request.label,
        subject,
        scopes: request.scopes === "all" ? vocabulary : request.scopes,
        proofKeyThumbprint: undefined,
        uses: 1,
        actor: "operator",
        issuer: undefined,
        lifetimeMillis: millis,
        sessionLifetimeMillis: null,
        sessionAbsoluteMillis: null
      })
      return Option.isSome(link) ? link.value : yield* fail(new AlreadySeeded())
    })
  })
})

/**
 * Creates the service; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  BootstrapCredentialService["Service"],
  InvalidBootstrapCredentialOptions | SecretStore.SecretStoreError,
  Requirements
> => Effect.flatMap(settings.fromObject(options), build)

/**
 * Provides the service with given options. Fails if they cannot work, or if the key of the digests cannot be read or made.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  BootstrapCredentialService,
  InvalidBootstrapCredentialOptions | SecretStore.SecretStoreError,
  Requirements
> => Layer.effect(BootstrapCredentialService, make(options))

/**
 * Provides the service with the options of the configuration, in variables that begin with `SALLYPORT_PAIRING_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  BootstrapCredentialService,
  Config.ConfigError | InvalidBootstrapCredentialOptions | SecretStore.SecretStoreError,
  Requirements
> = Layer.effect(BootstrapCredentialService, Effect.flatMap(settings.fromConfig, build))

/**
 * Provides the service with its defaults: links of 5 minutes, at most 1 hour.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<BootstrapCredentialService, SecretStore.SecretStoreError, Requirements> = Layer.effect(
  BootstrapCredentialService,
  Effect.flatMap(settings.defaults, build)
)

/**
 * Deletes links that have ended, again and again, in batches. Several processes may do this at once.
 *
 * `retention` is how long a link is kept after its end, by default 1 day: for so long a seeded credential is known not to be
 * a new one. `interval` defaults to 10 minutes, `batchSize` to 500 links. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Sweeper.RetentionOptions
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, AccessRepository> =>
  Sweeper.layer({
    name: "ended pairing links",
    options,
    defaults: { interval: "10 minutes", batchSize: 500, retention: "1 day" },
    sweep: Effect.map(AccessRepository, ({ links: repository }) => (limit, nowMillis, endedBeforeMillis) =>
      repository.sweep({ endedBeforeMillis, limit }, { actor: "system", nowMillis }))
  })
