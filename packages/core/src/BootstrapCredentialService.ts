/**
 * Issues and redeems one-time credentials: pairing links that an owner hands to a new device, and the credential that a
 * desktop application seeds into the backend it starts.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { AccessRepositoryError } from "./AccessRepositoryError.ts"
import * as AccessScope from "./AccessScope.ts"
import { AuthPolicy, BootstrapMethod } from "./AuthPolicy.ts"
import {
  BootstrapCredentialRepository,
  type PairingLinkRow,
  type RefusalReason,
  toPairingLink
} from "./BootstrapCredentialRepository.ts"
import * as Attempts from "./internal/attempts.ts"
import * as PlainText from "./internal/plainText.ts"
import * as Sweeper from "./Sweeper.ts"
import * as PairingCode from "./PairingCode.ts"
import type { PairingLink } from "./PairingLink.ts"
import * as SecretStore from "./SecretStore.ts"
import { actorOf, type Principal } from "./SessionCredentialService.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/** Reports a code that cannot be one: its length, a symbol or the check symbol is wrong. No attempt was counted. */
export class MalformedCode extends Schema.TaggedError<MalformedCode>()("MalformedCode", {}) {
  override get message() {
    return "This is not a pairing code; check it for a typing error"
  }
}

/**
 * Reports a code that lets nobody in: unknown, expired, revoked, used up, or bound to another key. A caller is not told
 * which; the log is.
 */
export class InvalidCredential extends Schema.TaggedError<InvalidCredential>()("InvalidCredential", {}) {
  override get message() {
    return "The pairing code is not valid, or not any more; ask for a new one"
  }
}

/** Reports that a good code was asked for more than it grants. The code was not used. */
export class ScopeNotGranted extends Schema.TaggedError<ScopeNotGranted>()("ScopeNotGranted", {
  requested: Schema.Array(AccessScope.AccessScope)
}) {
  override get message() {
    return `The pairing code does not grant all of ${this.requested.join(", ")}; ask for less, or for another code`
  }
}

/** Reports an attempt to hand on scopes that whoever issues the link doesn't hold. No link was made. */
export class ScopeNotHeld extends Schema.TaggedError<ScopeNotHeld>()("ScopeNotHeld", {
  missing: Schema.Array(AccessScope.AccessScope)
}) {
  override get message() {
    return `You cannot hand on ${this.missing.join(", ")}: you don't hold it yourself`
  }
}

/**
 * Reports a subject that a link cannot be for. Only the operator says whom a link is for (`foreign`); nobody may be called
 * as one of the feed's own actors, `operator` and `system` (`reserved`); and a name is one line of text (`empty`,
 * `malformed`). No link was made.
 */
export class SubjectNotAllowed extends Schema.TaggedError<SubjectNotAllowed>()("SubjectNotAllowed", {
  problem: Schema.Literals(["foreign", "reserved", "empty", "malformed"])
}) {
  override get message() {
    switch (this.problem) {
      case "foreign":
        return "Only the operator issues links for somebody else; leave the subject out to issue one for yourself"
      case "reserved":
        return "A subject cannot be called operator or system: the access feed tells these from people by their names"
      default:
        return "A subject is a line of text: it cannot be empty or hold control characters"
    }
  }
}

/** Reports a label that could not be shown on a line: it holds control characters or half of a character. No link was made. */
export class LabelNotAllowed extends Schema.TaggedError<LabelNotAllowed>()("LabelNotAllowed", {}) {
  override get message() {
    return "A label is a line of text: it cannot hold control characters"
  }
}

/** Reports a way in that the policy in force does not have. No link was made. */
export class MethodNotOffered extends Schema.TaggedError<MethodNotOffered>()("MethodNotOffered", {
  method: BootstrapMethod
}) {
  override get message() {
    return `The policy in force has no ${this.method}; choose another policy to use one`
  }
}

/** Reports that too many wrong codes came from one source, or from all together. This one was not looked at. */
export class TooManyAttempts extends Schema.TaggedError<TooManyAttempts>()("TooManyAttempts", {
  retryAfterMillis: Schema.Natural
}) {
  override get message() {
    return `There were too many wrong pairing codes; try again in ${
      Duration.format(Duration.seconds(Math.ceil(this.retryAfterMillis / 1000)))
    }`
  }
}

/** Reports a lifetime that is not positive or is above the configured maximum. No link was made. */
export class LifetimeOutOfBounds extends Schema.TaggedError<LifetimeOutOfBounds>()("LifetimeOutOfBounds", {
  requestedMillis: Schema.Number,
  maximumMillis: Schema.Number
}) {
  override get message() {
    return `A link may live up to ${Duration.format(Duration.millis(this.maximumMillis))}, not ` +
      Duration.format(Duration.millis(this.requestedMillis))
  }
}

/** Reports the id of a link that does not exist or can no longer be redeemed. */
export class LinkNotFound extends Schema.TaggedError<LinkNotFound>()("LinkNotFound", { id: Schema.String }) {
  override get message() {
    return `There is no open pairing link ${this.id}; list the links to see which there are`
  }
}

/** Reports a credential that was seeded before; a new one has to be made for each start. */
export class AlreadySeeded extends Schema.TaggedError<AlreadySeeded>()("AlreadySeeded", {}) {
  override get message() {
    return "This credential was seeded before, and may have been used; make a new one for each start of the backend"
  }
}

/** Reports a seeded credential that could be guessed. */
export class WeakCredential extends Schema.TaggedError<WeakCredential>()("WeakCredential", {
  minimumLength: Schema.Natural
}) {
  override get message() {
    return `A seeded credential needs at least ${this.minimumLength} random characters`
  }
}

/** Reports that the store could not answer. Nothing was used up, and the call can be made again. */
export class BootstrapStoreUnavailable
  extends Schema.TaggedError<BootstrapStoreUnavailable>()("BootstrapStoreUnavailable", {
    cause: AccessRepositoryError
  })
{
  override get message() {
    return "The store of pairing links cannot be reached at the moment; try again shortly"
  }
}

/** Reports what went wrong with a bootstrap credential, with a reason to branch on. */
export class BootstrapCredentialError extends Schema.TaggedError<BootstrapCredentialError>()(
  "BootstrapCredentialError",
  {
    reason: Schema.Union([
      MalformedCode,
      InvalidCredential,
      ScopeNotGranted,
      ScopeNotHeld,
      SubjectNotAllowed,
      LabelNotAllowed,
      MethodNotOffered,
      TooManyAttempts,
      LifetimeOutOfBounds,
      LinkNotFound,
      AlreadySeeded,
      WeakCredential,
      BootstrapStoreUnavailable
    ])
  }
) {
  override get message() {
    return this.reason.message
  }
}

/** Reports settings that contradict each other when the layer is built. */
export class InvalidBootstrapOptions extends Schema.TaggedError<InvalidBootstrapOptions>()("InvalidBootstrapOptions", {
  problem: Schema.String
}) {
  override get message() {
    return `The settings of pairing links cannot work: ${this.problem}`
  }
}

// -----------------------------------------------------------------------------
// Models
// -----------------------------------------------------------------------------

/** Describes what a redeemed credential grants. */
export interface Grant {
  readonly linkId: string
  readonly subject: string
  /** What was asked for, or all that the link grants. */
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
  readonly proofKeyThumbprint: string | null
  /** Who issued the link. */
  readonly createdBy: string
}

/** Bounds attempts: at most `limit` in a window. Each is forgotten after its share of it. */
export interface AttemptLimit {
  readonly limit: number
  readonly window: Duration.Input
}

/** Lists the settings of {@link layerWith}; each has a default. */
export interface Options {
  /** How long a link can be redeemed unless its issuer says otherwise. Default 5 minutes. */
  readonly lifetime?: Duration.Input | undefined
  /** The longest lifetime that an issuer may ask for. Default 1 hour. */
  readonly maximumLifetime?: Duration.Input | undefined
  /** How many links a list shows at most, the newest first. Default 1,000. */
  readonly listLimit?: number | undefined
  /**
   * How many well-formed but wrong credentials are taken from one source, by default 10 a minute, and from all together, by
   * default 1,000 a minute. They are counted with the `RateLimiter` in the context when the layer is built, which may be
   * shared between processes, and in this process where there is none.
   */
  readonly attempts?: {
    readonly perSource?: AttemptLimit | undefined
    readonly total?: AttemptLimit | undefined
  } | undefined
}

/** Names the secret, in the `SecretStore`, that keys the digests of codes. */
export const digestKeyName = "pairing-code-key"

/** The subject of a link whose issuer names none: the one owner of a personal server. */
export const defaultSubject = "owner"

/** The least length of a seeded credential: 128 bits in base64url. */
export const seedMinimumLength = 22

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/** Provides one-time credentials: how they are made, and how one is turned into a grant. */
export class BootstrapCredentialService extends Context.Service<BootstrapCredentialService, {
  /**
   * Makes a link and returns its code, which is shown here once and stored nowhere. Fails with {@link ScopeNotHeld} where
   * a session hands on more than it holds; the operator holds the whole vocabulary. Fails with {@link SubjectNotAllowed}
   * where a session names another subject than its own, with {@link LabelNotAllowed}, or with {@link MethodNotOffered}
   * where there is an `AuthPolicy` in the context of the layer, and it takes no pairing links.
   */
  readonly issue: (options: {
    readonly issuedBy: Principal
    readonly scopes: ReadonlyArray<AccessScope.AccessScope>
    /** Whom the new session belongs to, for the operator to say; the issuing session's subject, or {@link defaultSubject}. */
    readonly subject?: string | undefined
    readonly label?: string | undefined
    readonly kind?: PairingCode.Kind | undefined
    readonly lifetime?: Duration.Input | undefined
    /** How often the link can be redeemed: a whole number from 1, anything else is a defect. Default 1. */
    readonly uses?: number | undefined
    readonly proofKeyThumbprint?: string | undefined
  }) => Effect.Effect<
    { readonly code: Redacted.Redacted; readonly link: PairingLink },
    BootstrapCredentialError
  >
  /**
   * Redeems a code or a seeded credential. One atomic step checks everything and takes one use; a refusal takes none.
   * Fails with {@link MalformedCode} before the store is asked, with {@link InvalidCredential}, or with
   * {@link ScopeNotGranted}.
   *
   * Wrong credentials are counted, per source and in total, and past the limit each is answered {@link TooManyAttempts}
   * without a look at it. A mistyped code doesn't count, nor one that is good. An attempt counts while it is under way, so
   * of more at once than the limit some are turned away, right or wrong.
   */
  readonly consume: (options: {
    readonly credential: Redacted.Redacted
    /** What the session is to be allowed; all that the link grants where absent. */
    readonly scopes?: ReadonlyArray<AccessScope.AccessScope> | undefined
    readonly proofKeyThumbprint?: string | undefined
    /** Where the attempt comes from, such as a client's address. One without a source counts in total only. */
    readonly source?: string | undefined
    /** The ways in that are open, as a policy has them; both where absent. Another one is {@link InvalidCredential}. */
    readonly methods?: ReadonlyArray<BootstrapMethod> | undefined
  }) => Effect.Effect<Grant, BootstrapCredentialError>
  /** Returns the links that can still be redeemed, newest first, without their codes. */
  readonly list: Effect.Effect<ReadonlyArray<PairingLink>, BootstrapCredentialError>
  /** Revokes a link. Fails with {@link LinkNotFound} where it can't be redeemed anyway. */
  readonly revoke: (id: string, by: Principal) => Effect.Effect<void, BootstrapCredentialError>
  /**
   * Makes a credential that the host chose redeemable once, as a desktop application does for the window it opens.
   *
   * Waits for `ready`, which completes when the server accepts connections, before its lifetime starts: a slow start does
   * not eat it up. Fails with {@link AlreadySeeded} where the same credential was seeded before, spent or not, with
   * {@link WeakCredential} where it is short, with {@link MalformedCode} where it looks like a mistyped code, and with
   * {@link MethodNotOffered} where there is an `AuthPolicy` in the context of the layer, and it takes no seeded credentials.
   */
  readonly seed: (options: {
    readonly credential: Redacted.Redacted
    readonly scopes: ReadonlyArray<AccessScope.AccessScope>
    readonly ready: Effect.Effect<void>
    readonly subject?: string | undefined
    readonly label?: string | undefined
    readonly lifetime?: Duration.Input | undefined
  }) => Effect.Effect<PairingLink, BootstrapCredentialError>
}>()("@sallyport/core/BootstrapCredentialService") {}

// -----------------------------------------------------------------------------
// Layers
// -----------------------------------------------------------------------------

const fail = (reason: BootstrapCredentialError["reason"]) => new BootstrapCredentialError({ reason })

const unavailable = (cause: AccessRepositoryError) => fail(new BootstrapStoreUnavailable({ cause }))

const encoder = new TextEncoder()

const digestKeyLength = 32

const shortDigestKey = new SecretStore.SecretStoreError({
  reason: new SecretStore.Corrupt({
    location: `"${digestKeyName}"`,
    problem: `it is shorter than ${digestKeyLength} bytes`,
    remedy: "Restore the secret from a backup, or remove it: a new key is made, and open pairing links stop working."
  })
})

/** Longer input than this is refused unread. */
const maxCredentialLength = 512

/**
 * Returns what is digested for a credential, or none where it can be neither a code nor a seed. A seed that reads as a
 * code is digested as one, on both sides, so that a host may seed a code of its own making.
 */
const canonical = (text: string): Option.Option<string> => {
  const code = PairingCode.parse(text)
  if (Option.isSome(code)) return Option.some(`code:${Redacted.value(code.value)}`)
  return text.length < seedMinimumLength || text.length > maxCredentialLength || PairingCode.hasCodeForm(text)
    ? Option.none()
    : Option.some(`seed:${text}`)
}

/**
 * Makes links without storing them, for who stores one in a transaction of its own, such as that of the decision that it
 * follows from. Their codes are for machines, and {@link BootstrapCredentialService}'s `consume` takes them.
 */
export const makeGrants = Effect.gen(function*() {
  const random = yield* SecureRandom.SecureRandom
  const mac = yield* Mac.Mac
  const secrets = yield* SecretStore.SecretStore
  const keyBytes = yield* secrets.getOrCreateRandom(digestKeyName, digestKeyLength)
  if (Redacted.value(keyBytes).length < digestKeyLength) return yield* shortDigestKey
  const digestKey = yield* Effect.orDie(Mac.key(Mac.hmacSha256, Redacted.value(keyBytes)))
  return Effect.fnUntraced(function*(grant: {
    readonly scopes: ReadonlyArray<AccessScope.AccessScope>
    readonly subject: string
    readonly label: string | null
    readonly proofKeyThumbprint: string
    readonly createdBy: string
    readonly lifetimeMillis: number
  }) {
    const code = yield* Effect.provideService(PairingCode.generate("machine"), SecureRandom.SecureRandom, random)
    const text = Option.getOrThrow(canonical(Redacted.value(code)))
    const nowMillis = yield* Clock.currentTimeMillis
    const row: PairingLinkRow = {
      id: yield* random.uuidV7(),
      codeDigest: Hex.encode(yield* Effect.orDie(mac.sign(digestKey, encoder.encode(text)))),
      label: grant.label,
      subject: grant.subject,
      scopes: grant.scopes,
      proofKeyThumbprint: grant.proofKeyThumbprint,
      remainingUses: 1,
      createdBy: grant.createdBy,
      createdAtMillis: nowMillis,
      expiresAtMillis: nowMillis + grant.lifetimeMillis,
      revokedAtMillis: null
    }
    return { code, row }
  })
})

/** Builds the service; {@link layer} is what most hosts want. */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<
  BootstrapCredentialService["Service"],
  InvalidBootstrapOptions | SecretStore.SecretStoreError,
  BootstrapCredentialRepository | SecretStore.SecretStore | SecureRandom.SecureRandom | Mac.Mac
> {
  const repository = yield* BootstrapCredentialRepository
  const random = yield* SecureRandom.SecureRandom
  const mac = yield* Mac.Mac
  const secrets = yield* SecretStore.SecretStore
  const vocabulary = yield* AccessScope.Vocabulary

  const defaultLifetime = Duration.fromInputUnsafe(options.lifetime ?? "5 minutes")
  const maximumMillis = Duration.toMillis(options.maximumLifetime ?? "1 hour")
  const listLimit = options.listLimit ?? 1_000
  const defaultMillis = Duration.toMillis(defaultLifetime)
  if (!(defaultMillis > 0 && defaultMillis <= maximumMillis)) {
    return yield* new InvalidBootstrapOptions({
      problem: "lifetime must be positive and not longer than maximumLifetime, or no link could be issued"
    })
  }

  const attemptLimit = (
    setting: "perSource" | "total",
    preset: number
  ): Effect.Effect<Attempts.Limit, InvalidBootstrapOptions> => {
    const { limit, window } = options.attempts?.[setting] ?? { limit: preset, window: "1 minute" }
    const windowMillis = Duration.toMillis(window)
    return Number.isSafeInteger(limit) && limit > 0 && windowMillis > 0 && Number.isFinite(windowMillis)
      ? Effect.succeed({ attempts: limit, windowMillis })
      : Effect.fail(
        new InvalidBootstrapOptions({
          problem:
            `attempts.${setting} needs a limit that is a whole number from 1, and a window that is positive and finite`
        })
      )
  }
  const attempts = yield* Attempts.make("bootstrap", {
    perSource: yield* attemptLimit("perSource", 10),
    total: yield* attemptLimit("total", 1_000)
  })
  const policy = yield* Effect.serviceOption(AuthPolicy)

  const keyBytes = yield* secrets.getOrCreateRandom(digestKeyName, digestKeyLength)
  if (Redacted.value(keyBytes).length < digestKeyLength) return yield* shortDigestKey
  const digestKey = yield* Effect.orDie(Mac.key(Mac.hmacSha256, Redacted.value(keyBytes)))
  // The key is of our own making and of the right length, so signing with it cannot fail.
  const digestOf = (text: string): Effect.Effect<string> =>
    Effect.map(Effect.orDie(mac.sign(digestKey, encoder.encode(text))), Hex.encode)

  const lifetimeMillis = (lifetime: Duration.Input | undefined): Effect.Effect<number, BootstrapCredentialError> => {
    const requestedMillis = Math.round(Duration.toMillis(lifetime ?? defaultLifetime))
    return requestedMillis > 0 && requestedMillis <= maximumMillis
      ? Effect.succeed(requestedMillis)
      : Effect.fail(fail(new LifetimeOutOfBounds({ requestedMillis, maximumMillis })))
  }

  const insert = Effect.fnUntraced(function*(link: {
    readonly codeDigest: string
    readonly label: string | undefined
    readonly subject: string
    readonly scopes: ReadonlyArray<AccessScope.AccessScope>
    readonly proofKeyThumbprint: string | undefined
    readonly uses: number
    readonly actor: string
    readonly lifetimeMillis: number
  }) {
    const nowMillis = yield* Clock.currentTimeMillis
    const row: PairingLinkRow = {
      id: yield* random.uuidV7(),
      codeDigest: link.codeDigest,
      label: link.label ?? null,
      subject: link.subject,
      scopes: link.scopes,
      proofKeyThumbprint: link.proofKeyThumbprint ?? null,
      remainingUses: link.uses,
      createdBy: link.actor,
      createdAtMillis: nowMillis,
      expiresAtMillis: nowMillis + link.lifetimeMillis,
      revokedAtMillis: null
    }
    // Made before the row is written: it checks the request, and a bad one leaves nothing behind.
    const made = toPairingLink(row)
    const inserted = yield* Effect.mapError(repository.insert(row, { actor: link.actor, nowMillis }), unavailable)
    return inserted ? Option.some(made) : Option.none<PairingLink>()
  })

  const refusalError = (
    reason: RefusalReason,
    scopes: ReadonlyArray<AccessScope.AccessScope> | undefined
  ): BootstrapCredentialError =>
    fail(reason === "scope-not-granted" ? new ScopeNotGranted({ requested: scopes ?? [] }) : new InvalidCredential())

  /** Fails where the policy in force, or what people are to read of a link, rules it out. */
  const checkLink = (
    method: BootstrapMethod,
    subject: string,
    label: string | undefined
  ): Effect.Effect<void, BootstrapCredentialError> => {
    if (Option.isSome(policy) && !policy.value.bootstrapMethods.includes(method)) {
      return Effect.fail(fail(new MethodNotOffered({ method })))
    }
    const problem = PlainText.subjectProblem(subject)
    if (problem !== undefined) return Effect.fail(fail(new SubjectNotAllowed({ problem })))
    return PlainText.isPlainText(label ?? "") ? Effect.void : Effect.fail(fail(new LabelNotAllowed()))
  }

  /** Makes an attempt that counts where it is refused; what comes of it otherwise says nothing about who guesses. */
  const counting = (source: string | undefined) =>
  <A>(
    attempt: Effect.Effect<A, BootstrapCredentialError>
  ): Effect.Effect<A, BootstrapCredentialError> =>
    Effect.flatMap(Effect.mapError(attempts.reserve(source), unavailable), (reservation) => {
      if (reservation._tag === "Exceeded") {
        return Effect.andThen(
          Effect.logInfo("Turned an attempt to redeem a bootstrap credential away: there were too many"),
          Effect.fail(
            fail(new TooManyAttempts({ retryAfterMillis: Math.max(1, Math.ceil(reservation.retryAfterMillis)) }))
          )
        )
      }
      // A counter that cannot be taken back counts one too many until it runs out, which is no reason to fail what was done.
      const refund = Effect.ignore(reservation.refund, { log: "Warn" })
      return Effect.matchEffect(attempt, {
        onFailure: (error) =>
          error.reason._tag === "InvalidCredential" ? Effect.fail(error) : Effect.andThen(refund, Effect.fail(error)),
        onSuccess: (result) => Effect.as(refund, result)
      })
    })

  return BootstrapCredentialService.of({
    issue: Effect.fn("BootstrapCredentialService.issue")(function*(request) {
      const own = request.issuedBy === "operator" ? undefined : request.issuedBy.subject
      const subject = request.subject ?? own ?? defaultSubject
      if (own !== undefined && subject !== own) return yield* fail(new SubjectNotAllowed({ problem: "foreign" }))
      yield* checkLink("pairing-link", subject, request.label)
      const held = request.issuedBy === "operator" ? vocabulary : request.issuedBy.scopes
      const missing = AccessScope.missing(held, request.scopes)
      if (missing.length > 0) return yield* fail(new ScopeNotHeld({ missing }))
      const millis = yield* lifetimeMillis(request.lifetime)
      const uses = request.uses ?? 1
      if (!Number.isSafeInteger(uses) || uses < 1) {
        return yield* Effect.die(new RangeError("uses must be a whole number from 1"))
      }
      const code = yield* PairingCode.generate(request.kind ?? "device").pipe(
        Effect.provideService(SecureRandom.SecureRandom, random)
      )
      const link = yield* insert({
        codeDigest: yield* digestOf(Option.getOrThrow(canonical(Redacted.value(code)))),
        label: request.label,
        subject,
        scopes: request.scopes,
        proofKeyThumbprint: request.proofKeyThumbprint,
        uses,
        actor: actorOf(request.issuedBy),
        lifetimeMillis: millis
      })
      // Two equal codes of 75 random bits among the few that are open: not an outcome to have an error for.
      if (Option.isNone(link)) return yield* Effect.die(new Error("A fresh pairing code exists already"))
      return { code, link: link.value }
    }),
    consume: Effect.fn("BootstrapCredentialService.consume")(function*(
      { credential, methods, proofKeyThumbprint, scopes, source }
    ) {
      const text = canonical(Redacted.value(credential))
      if (Option.isNone(text)) return yield* fail(new MalformedCode())
      const method: BootstrapMethod = text.value.startsWith("seed:") ? "seeded-credential" : "pairing-link"
      if (methods !== undefined && !methods.includes(method)) {
        yield* Effect.logInfo("Refused a bootstrap credential").pipe(
          Effect.annotateLogs({ reason: "method-not-offered" })
        )
        return yield* fail(new InvalidCredential())
      }
      const codeDigest = yield* digestOf(text.value)
      const nowMillis = yield* Clock.currentTimeMillis
      const row = yield* repository.consume({ codeDigest, scopes, proofKeyThumbprint }, {
        actor: "system",
        nowMillis
      }).pipe(
        Effect.mapError(unavailable),
        Effect.flatMap((outcome) =>
          outcome._tag === "Consumed"
            ? Effect.succeed(outcome.row)
            : Effect.andThen(
              Effect.annotateLogs(Effect.logInfo("Refused a bootstrap credential"), { reason: outcome.reason }),
              Effect.fail(refusalError(outcome.reason, scopes))
            )
        ),
        counting(source)
      )
      return {
        linkId: row.id,
        subject: row.subject,
        scopes: scopes ?? row.scopes,
        proofKeyThumbprint: row.proofKeyThumbprint,
        createdBy: row.createdBy
      }
    }),
    list: Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => repository.list({ nowMillis, limit: listLimit })).pipe(
      Effect.map((rows) => rows.map(toPairingLink)),
      Effect.mapError(unavailable),
      Effect.withSpan("BootstrapCredentialService.list")
    ),
    revoke: Effect.fn("BootstrapCredentialService.revoke")(function*(id, by) {
      const nowMillis = yield* Clock.currentTimeMillis
      const revoked = yield* Effect.mapError(repository.revoke(id, { actor: actorOf(by), nowMillis }), unavailable)
      if (!revoked) return yield* fail(new LinkNotFound({ id }))
    }),
    seed: Effect.fn("BootstrapCredentialService.seed")(function*(request) {
      const text = Redacted.value(request.credential)
      if (text.length < seedMinimumLength || text.length > maxCredentialLength) {
        return yield* fail(new WeakCredential({ minimumLength: seedMinimumLength }))
      }
      const seed = canonical(text)
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
        scopes: request.scopes,
        proofKeyThumbprint: undefined,
        uses: 1,
        actor: "operator",
        lifetimeMillis: millis
      })
      return Option.isSome(link) ? link.value : yield* fail(new AlreadySeeded())
    })
  })
})

/** Provides the service with given settings. Fails when they contradict each other or the key of the digests cannot be read or made. */
export const layerWith = (options: Options): Layer.Layer<
  BootstrapCredentialService,
  InvalidBootstrapOptions | SecretStore.SecretStoreError,
  BootstrapCredentialRepository | SecretStore.SecretStore | SecureRandom.SecureRandom | Mac.Mac
> => Layer.effect(BootstrapCredentialService, make(options))

/** Provides the service with its defaults: links of 5 minutes, at most 1 hour. */
export const layer: Layer.Layer<
  BootstrapCredentialService,
  InvalidBootstrapOptions | SecretStore.SecretStoreError,
  BootstrapCredentialRepository | SecretStore.SecretStore | SecureRandom.SecureRandom | Mac.Mac
> = layerWith({})

/**
 * Deletes links that have ended, again and again, in batches. Several processes may do this at once.
 *
 * `retention` is how long a link is kept after its end, by default 1 day: for so long a seeded credential is known not to be
 * a new one. `interval` defaults to 10 minutes, `batchSize` to 500 links. A failure is logged, and tried again.
 */
export const layerSweeper = (options?: {
  readonly interval?: Duration.Input | undefined
  readonly batchSize?: number | undefined
  readonly retention?: Duration.Input | undefined
}): Layer.Layer<never, never, BootstrapCredentialRepository> =>
  Sweeper.layer({
    name: "ended pairing links",
    options,
    defaults: { interval: "10 minutes", batchSize: 500 },
    sweep: Effect.map(BootstrapCredentialRepository, (repository) => {
      const retentionMillis = Duration.toMillis(options?.retention ?? "1 day")
      return (limit, nowMillis) =>
        repository.sweep(
          { endedBeforeMillis: Math.max(0, nowMillis - retentionMillis), limit },
          { actor: "system", nowMillis }
        )
    })
  })
