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
import {
  BootstrapCredentialRepository,
  type PairingLinkRow,
  type RefusalReason,
  toPairingLink
} from "./BootstrapCredentialRepository.ts"
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

/** Lists the settings of {@link layerWith}; each has a default. */
export interface Options {
  /** How long a link can be redeemed unless its issuer says otherwise. Default 5 minutes. */
  readonly lifetime?: Duration.Input | undefined
  /** The longest lifetime that an issuer may ask for. Default 1 hour. */
  readonly maximumLifetime?: Duration.Input | undefined
  /** How many links a list shows at most, the newest first. Default 1,000. */
  readonly listLimit?: number | undefined
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
   * a session hands on more than it holds; the operator holds the whole vocabulary.
   */
  readonly issue: (options: {
    readonly issuedBy: Principal
    readonly scopes: ReadonlyArray<AccessScope.AccessScope>
    /** Whom the new session belongs to; by default the issuing session's subject, or {@link defaultSubject}. */
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
   */
  readonly consume: (options: {
    readonly credential: Redacted.Redacted
    /** What the session is to be allowed; all that the link grants where absent. */
    readonly scopes?: ReadonlyArray<AccessScope.AccessScope> | undefined
    readonly proofKeyThumbprint?: string | undefined
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
   * {@link WeakCredential} where it is short, and with {@link MalformedCode} where it looks like a mistyped code.
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

  return BootstrapCredentialService.of({
    issue: Effect.fn("BootstrapCredentialService.issue")(function*(request) {
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
        subject: request.subject ?? (request.issuedBy === "operator" ? defaultSubject : request.issuedBy.subject),
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
    consume: Effect.fn("BootstrapCredentialService.consume")(function*({ credential, proofKeyThumbprint, scopes }) {
      const text = canonical(Redacted.value(credential))
      if (Option.isNone(text)) return yield* fail(new MalformedCode())
      const codeDigest = yield* digestOf(text.value)
      const nowMillis = yield* Clock.currentTimeMillis
      const outcome = yield* repository.consume({ codeDigest, scopes, proofKeyThumbprint }, {
        actor: "system",
        nowMillis
      }).pipe(Effect.mapError(unavailable))
      if (outcome._tag === "Refused") {
        yield* Effect.logInfo("Refused a bootstrap credential").pipe(Effect.annotateLogs({ reason: outcome.reason }))
        return yield* refusalError(outcome.reason, scopes)
      }
      const { row } = outcome
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
      const millis = yield* lifetimeMillis(request.lifetime)
      const codeDigest = yield* digestOf(seed.value)
      yield* request.ready
      const link = yield* insert({
        codeDigest,
        label: request.label,
        subject: request.subject ?? defaultSubject,
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
