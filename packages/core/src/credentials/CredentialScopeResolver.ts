/**
 * Credentials of providers that belong to a user, an organisation or a workspace: who may write which, whose is used, and
 * who was given it.
 *
 * Values are encrypted with {@link SecretKeys}, bound to scope, owner, key and revision. What a process has read it keeps,
 * decrypted, for as long as the access feed tells it of changes.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Aead from "effect/crypto/Aead"
import type * as Kdf from "effect/crypto/Kdf"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { AccessEvent } from "../access/AccessEvent.ts"
import type { AccessFeedRepository } from "../access/AccessFeedRepository.ts"
import {
  CredentialRequirements,
  partsOf,
  type Requirement,
  scopesOf,
  singlePart,
  type Verdict
} from "./CredentialRequirements.ts"
import { type CredentialSource, CredentialStatus } from "./CredentialStatus.ts"
import * as AccessFollower from "../access/internal/accessFollower.ts"
import * as CredentialCache from "./internal/credentialCache.ts"
import {
  CredentialError,
  CredentialRejected,
  fail,
  NotPermitted,
  NotSet,
  OrgLookupFailed,
  ScopeNotAllowed,
  stored,
  Undecryptable,
  UnknownKey,
  ValueTooLarge,
  WrongParts
} from "./internal/credentialErrors.ts"
import * as CredentialReads from "./internal/credentialReads.ts"
import * as Rights from "./internal/credentialRights.ts"
import * as Vault from "./internal/credentialVault.ts"
import { mayWrite, type Membership, OrgLookupError, OrgMembership } from "./OrgMembership.ts"
import { CredentialKey, CredentialScope, type ScopedCredential } from "../access/ScopedCredential.ts"
import {
  ScopedCredentialRepository,
  type ScopedCredentialRow,
  type ScopedOwner
} from "../access/ScopedCredentialRepository.ts"
import type { SecretKeys } from "../secrets/SecretKeys.ts"

export {
  CredentialError,
  CredentialRejected,
  CredentialStoreUnavailable,
  NoActiveOrg,
  NotPermitted,
  NotSet,
  OrgLookupFailed,
  ScopeNotAllowed,
  Undecryptable,
  UnknownKey,
  ValueTooLarge,
  WrongParts
} from "./internal/credentialErrors.ts"
export { rotate, type RotationReport } from "./internal/credentialRotation.ts"

// -----------------------------------------------------------------------------
// Models and service
// -----------------------------------------------------------------------------

/**
 * Says who asks: a session, or anything that has a subject.
 *
 * @category models
 * @since 0.1.0
 */
export interface Principal {
  readonly subject: string
}

/**
 * Says whose credential was found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Found {
  readonly key: string
  readonly source: CredentialSource
  /** The owner in that scope; the host where the source is the environment. */
  readonly owner: string
  /** Which write the value is of; null where the source is the environment. */
  readonly revision: string | null
}

/**
 * Holds a credential that is one value.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolved extends Found {
  readonly value: Redacted.Redacted
}

/**
 * Holds every part of a bundle, all of one write.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResolvedBundle extends Found {
  readonly values: ReadonlyMap<string, Redacted.Redacted>
}

/**
 * Describes what was written.
 *
 * @category models
 * @since 0.1.0
 */
export interface Written {
  readonly credential: ScopedCredential
  /** A scope that has one too and is read first: whoever wrote goes on getting that one. */
  readonly shadowedBy: CredentialScope | null
}

/**
 * Provides scoped credentials. Each operation looks the caller's organisation up, and fails where that fails.
 *
 * @category services
 * @since 0.1.0
 */
export class CredentialScopeResolver extends Context.Service<CredentialScopeResolver, {
  /**
   * Returns the value that a caller uses: the first in the order of reading. One that is there but rejected or undecryptable
   * is an error, and no other is used in its place. A bundle has no single value: that is {@link WrongParts}.
   */
  readonly resolve: (principal: Principal, key: string) => Effect.Effect<Option.Option<Resolved>, CredentialError>
  /** Returns all parts of a credential, of one scope and one write. */
  readonly resolveBundle: (
    principal: Principal,
    key: string
  ) => Effect.Effect<Option.Option<ResolvedBundle>, CredentialError>
  /** Does what `resolve` does; where nothing is set it fails with {@link NotSet}, which says what to ask people for. */
  readonly require: (principal: Principal, key: string) => Effect.Effect<Resolved, CredentialError>
  /** Does what `resolveBundle` does, and fails with {@link NotSet}. */
  readonly requireBundle: (principal: Principal, key: string) => Effect.Effect<ResolvedBundle, CredentialError>
  /** Says where a write goes that names no scope, and whose it is then. */
  readonly writeScope: (principal: Principal, key: string) => Effect.Effect<ScopedOwner, CredentialError>
  /**
   * Stores a value in place of the one in the same place, all parts in one step. Without `scope` it goes where `writeScope`
   * says; the writer's own credential, which would be read first, is then removed in the same step. With `scope` it stays,
   * and is reported as `shadowedBy`. Rights are checked before anything is written.
   */
  readonly write: (principal: Principal, options: {
    readonly key: string
    readonly values: ReadonlyMap<string, Redacted.Redacted>
    readonly scope?: string | undefined
  }) => Effect.Effect<Written, CredentialError>
  /**
   * Removes the credential that the caller uses: the first that exists in the order of reading, whatever the caller's role
   * was when it was written. Where that is not the caller's to remove it fails with {@link NotPermitted}, and nothing else is
   * removed in its place. `scope` names another one. A key that is not declared any more can be removed too.
   */
  readonly remove: (principal: Principal, options: {
    readonly key: string
    readonly scope?: string | undefined
  }) => Effect.Effect<ScopedCredential, CredentialError>
  /** Returns what the caller, and the organisation and workspace that the caller is active in, have. Nothing is decrypted. */
  readonly list: (principal: Principal) => Effect.Effect<ReadonlyArray<ScopedCredential>, CredentialError>
  /**
   * Returns the state of every declared credential as the caller would get it, in the order of the keys. Values are
   * decrypted to see whether they can be, and given to nobody.
   */
  readonly status: (principal: Principal) => Effect.Effect<ReadonlyArray<CredentialStatus>, CredentialError>
  /**
   * Has the provider check the credential that the caller uses. `Rejected` marks that very revision as rejected for a
   * limited time, `Valid` takes the mark away, and nothing else changes it.
   */
  readonly test: (principal: Principal, key: string) => Effect.Effect<Verdict, CredentialError>
}>()("@sallyport/core/credentials/CredentialScopeResolver") {}

/**
 * Lists the settings of {@link layerWith}; each has a default.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Whose credential comes first. A scope that is left out is not read. Default user, org, workspace. */
  readonly readOrder?: ReadonlyArray<CredentialScope> | undefined
  /** Tells this store from others under the same keys. It must stay the same for the life of the store. Default `credentials`. */
  readonly storeId?: string | undefined
  /** The largest value of a credential, in bytes of its JSON text. Default 65,536. */
  readonly maxValueBytes?: number | undefined
  /** How long a rejected credential counts as rejected. Default 15 minutes. */
  readonly rejectedFor?: Duration.Input | undefined
  /** How long a validator may take before its provider counts as down. Default 10 seconds. */
  readonly testTimeout?: Duration.Input | undefined
  /** How many resolved credentials a process keeps. Default 10,000. */
  readonly cacheCapacity?: number | undefined
  /** How long a resolved credential is trusted since the feed was last read to its end. Default 5 seconds. */
  readonly trustedFor?: Duration.Input | undefined
  /**
   * How often repeated reads are counted into the feed. The first read by somebody is there before the value is given out;
   * a process that is killed loses the count of repeated ones since. Default 10 seconds.
   */
  readonly auditInterval?: Duration.Input | undefined
}

const isKey = Schema.is(CredentialKey)

// -----------------------------------------------------------------------------
// Resolver
// -----------------------------------------------------------------------------

/** What is found of a credential: its row opened, or its values of the environment. */
interface Candidate extends Found {
  readonly row: ScopedCredentialRow | undefined
  readonly values: ReadonlyMap<string, Redacted.Redacted>
}

type Services =
  | ScopedCredentialRepository
  | AccessFeedRepository
  | OrgMembership
  | CredentialRequirements
  | SecretKeys
  | Aead.Aead
  | Kdf.Kdf
  | SecureRandom.SecureRandom

/**
 * Builds the service; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<
  CredentialScopeResolver["Service"],
  never,
  Services | Scope.Scope
> {
  const repository = yield* ScopedCredentialRepository
  const membership = yield* OrgMembership
  const requirements = yield* CredentialRequirements
  const random = yield* SecureRandom.SecureRandom
  const vault = yield* Vault.make(options.storeId ?? "credentials")
  const readOrder = options.readOrder ?? CredentialScope.literals
  const maxValueBytes = options.maxValueBytes ?? 65_536
  const rejectedForMillis = Duration.toMillis(Duration.fromInputUnsafe(options.rejectedFor ?? "15 minutes"))
  const testTimeout = Duration.fromInputUnsafe(options.testTimeout ?? "10 seconds")
  const trustMillis = Duration.toMillis(Duration.fromInputUnsafe(options.trustedFor ?? "5 seconds"))

  // ---------------------------------------------------------------------------
  // Who and where
  // ---------------------------------------------------------------------------

  const requirementOf = (key: string): Effect.Effect<Requirement, CredentialError> => {
    const requirement = requirements.get(key)
    return requirement === undefined ? fail(new UnknownKey({ key })) : Effect.succeed(requirement)
  }

  const lookUp = ({ subject }: Principal): Effect.Effect<Membership, CredentialError> =>
    membership.active(subject).pipe(
      Effect.filterOrFail(
        ({ org, workspace }) => org?.id !== "" && workspace?.id !== "",
        () => new OrgLookupError({ cause: new Error("The look-up answered with an empty id") })
      ),
      Effect.mapError((cause) => new CredentialError({ reason: new OrgLookupFailed({ cause }) }))
    )

  // ---------------------------------------------------------------------------
  // Looking up
  // ---------------------------------------------------------------------------

  const cache = CredentialCache.make<Candidate>(options.cacheCapacity ?? 10_000)
  const follower = yield* AccessFollower.make({
    trustMillis,
    onEvents: (events: ReadonlyArray<AccessEvent>) => {
      for (const { change } of events) {
        if (change._tag === "credentialUpserted") cache.forget(change.credential.key)
        else if (change._tag === "credentialRemoved") cache.forget(change.key)
      }
    },
    onGap: cache.forgetAll
  })
  // Values don't outlive the service in memory that somebody may still hold on to.
  yield* Effect.addFinalizer(() => Effect.sync(cache.forgetAll))

  const audit = yield* CredentialReads.make(Duration.fromInputUnsafe(options.auditInterval ?? "10 seconds"))

  const fromEnvironment = Effect.fnUntraced(function*(requirement: Requirement) {
    if (requirement.environment === undefined) return undefined
    const values = new Map<string, Redacted.Redacted>()
    for (const [part, variable] of Object.entries(requirement.environment)) {
      const found = yield* Effect.orDie(Config.option(Config.Redacted(variable)))
      if (Option.isNone(found) || Redacted.value(found.value) === "") return undefined
      values.set(part, found.value)
    }
    const candidate: Candidate = {
      key: requirement.key,
      source: "environment",
      owner: "host",
      revision: null,
      row: undefined,
      values
    }
    return candidate
  })

  const openRow = Effect.fnUntraced(function*(
    requirement: Requirement,
    row: ScopedCredentialRow
  ): Effect.fn.Return<Candidate, CredentialError> {
    const opened = Result.flatMap(yield* vault.openBytes(row), (bytes) => Vault.decodeParts(requirement, bytes))
    if (Result.isFailure(opened)) {
      return yield* fail(new Undecryptable({ key: row.key, scope: row.scope, problem: opened.failure }))
    }
    return {
      key: row.key,
      source: row.scope,
      owner: row.owner,
      revision: row.revision,
      row,
      values: opened.success
    }
  })

  const load = Effect.fnUntraced(function*(
    requirement: Requirement,
    owners: ReadonlyArray<ScopedOwner>,
    id: string
  ): Effect.fn.Return<Candidate | undefined, CredentialError> {
    const readAt = cache.generation()
    const [row] = yield* stored(repository.find({ key: requirement.key, owners }))
    if (row === undefined) return yield* fromEnvironment(requirement)
    const candidate = yield* openRow(requirement, row)
    cache.remember(id, candidate, readAt)
    return candidate
  })

  /** Finds what a caller uses, rejected or not. */
  const lookFor = Effect.fnUntraced(function*(
    principal: Principal,
    requirement: Requirement
  ): Effect.fn.Return<Candidate | undefined, CredentialError> {
    const allowed = scopesOf(requirement)
    const owners = Rights.ownersOf(readOrder, principal, yield* lookUp(principal)).filter(({ scope }) =>
      allowed.includes(scope)
    )
    const id = JSON.stringify([requirement.key, owners.map(({ owner, scope }) => [scope, owner])])
    if (cache.get(id) !== undefined) {
      const nowMillis = yield* Clock.currentTimeMillis
      if (follower.isLive(nowMillis) || (yield* follower.catchUp)) {
        const known = cache.get(id)
        if (known !== undefined) return known
      }
    }
    return yield* load(requirement, owners, id)
  })

  // ---------------------------------------------------------------------------
  // Operations
  // ---------------------------------------------------------------------------

  const obtain = Effect.fnUntraced(function*(
    principal: Principal,
    requirement: Requirement
  ): Effect.fn.Return<Option.Option<ResolvedBundle>, CredentialError> {
    const found = yield* lookFor(principal, requirement)
    if (found === undefined) return Option.none()
    const until = found.row?.rejectedUntilMillis ?? null
    if (found.row !== undefined && until !== null && until > (yield* Clock.currentTimeMillis)) {
      return yield* fail(
        new CredentialRejected({ key: found.key, scope: found.row.scope, until: DateTime.makeUnsafe(until) })
      )
    }
    yield* audit(principal, found)
    const { key, owner, revision, source, values } = found
    return Option.some({ key, source, owner, revision, values })
  })

  const resolveBundle = Effect.fn("CredentialScopeResolver.resolveBundle")(function*(
    principal: Principal,
    key: string
  ) {
    return yield* obtain(principal, yield* requirementOf(key))
  })

  const resolve = Effect.fn("CredentialScopeResolver.resolve")(function*(
    principal: Principal,
    key: string
  ): Effect.fn.Return<Option.Option<Resolved>, CredentialError> {
    const requirement = yield* requirementOf(key)
    const [part = singlePart, ...others] = partsOf(requirement)
    if (others.length > 0) return yield* fail(new WrongParts({ key, expected: partsOf(requirement) }))
    return Option.map(yield* obtain(principal, requirement), ({ owner, revision, source, values }) => ({
      key,
      source,
      owner,
      revision,
      value: values.get(part) ?? Redacted.make("")
    }))
  })

  const orNotSet = (key: string) => <A>(found: Option.Option<A>): Effect.Effect<A, CredentialError> =>
    Option.match(found, {
      onSome: Effect.succeed,
      onNone: () => {
        const requirement = requirements.get(key)
        return fail(
          new NotSet({ key, label: requirement?.label ?? key, helpUrl: requirement?.helpUrl ?? null })
        )
      }
    })

  const write = Effect.fn("CredentialScopeResolver.write")(function*(principal: Principal, request: {
    readonly key: string
    readonly values: ReadonlyMap<string, Redacted.Redacted>
    readonly scope?: string | undefined
  }): Effect.fn.Return<Written, CredentialError> {
    const requirement = yield* requirementOf(request.key)
    const { key } = requirement
    const parts = partsOf(requirement)
    const asked = request.scope === undefined ? undefined : yield* Rights.scopeOf(requirement, request.scope)
    if (
      request.values.size !== parts.length ||
      !parts.every((part) => Redacted.value(request.values.get(part) ?? Redacted.make("")) !== "")
    ) {
      return yield* fail(new WrongParts({ key, expected: parts }))
    }
    const bytes = Vault.encodeParts(parts, request.values)
    if (bytes.length > maxValueBytes) return yield* fail(new ValueTooLarge({ key, limitBytes: maxValueBytes }))

    const found = yield* lookUp(principal)
    const { owner, scope } = yield* Rights.permit(
      principal,
      found,
      key,
      asked ?? Rights.impliedScope(found, requirement)
    )
    const rank = readOrder.indexOf(scope)
    const allowed = scopesOf(requirement)
    const ahead = Rights.ownersOf(readOrder, principal, found).filter((candidate) =>
      readOrder.indexOf(candidate.scope) < rank && allowed.includes(candidate.scope)
    )
    const own = asked === undefined && scope !== "user" && ahead.some((candidate) => candidate.scope === "user")
      ? { scope: "user" as const, owner: principal.subject, key }
      : undefined
    const place = { scope, owner, key, revision: Hex.encode(yield* random.randomBytes(16)) }
    const sealed = yield* vault.sealBytes(place, bytes)
    const nowMillis = yield* Clock.currentTimeMillis
    const credential = yield* stored(repository.put(
      { ...place, ...sealed, updatedAtMillis: nowMillis, updatedBy: principal.subject },
      own,
      { actor: principal.subject, nowMillis }
    )).pipe(Effect.ensuring(Effect.sync(() => cache.forget(key))))
    const [shadowing] = ahead.length === 0 ? [] : yield* stored(repository.find({ key, owners: ahead }))
    return { credential, shadowedBy: shadowing?.scope ?? null }
  })

  const remove = Effect.fn("CredentialScopeResolver.remove")(function*(principal: Principal, request: {
    readonly key: string
    readonly scope?: string | undefined
  }): Effect.fn.Return<ScopedCredential, CredentialError> {
    const { key, scope } = request
    if (!isKey(key)) return yield* fail(new UnknownKey({ key }))
    if (scope !== undefined && !Rights.isScope(scope)) {
      return yield* fail(new ScopeNotAllowed({ key, scope, allowed: CredentialScope.literals }))
    }
    const found = yield* lookUp(principal)
    const candidates = scope === undefined
      ? Rights.ownersOf(readOrder, principal, found)
      : [{ ...(yield* Rights.permit(principal, found, key, scope)), removable: true }]
    const nowMillis = yield* Clock.currentTimeMillis
    const outcome = yield* stored(
      repository.remove({ key, candidates }, { actor: principal.subject, nowMillis })
    ).pipe(Effect.ensuring(Effect.sync(() => cache.forget(key))))
    switch (outcome._tag) {
      case "Removed":
        return outcome.credential
      case "Refused":
        return yield* fail(new NotPermitted({ key, scope: outcome.scope }))
      case "Absent":
        return yield* orNotSet(key)(Option.none())
    }
  })

  const listPage = 256

  const list = Effect.fn("CredentialScopeResolver.list")(function*(principal: Principal) {
    const all: Array<ScopedCredential> = []
    for (const owner of Rights.ownersOf(readOrder, principal, yield* lookUp(principal))) {
      let afterKey: string | undefined
      while (true) {
        const page = yield* stored(repository.list({ owner, afterKey, limit: listPage }))
        all.push(...page)
        afterKey = page[page.length - 1]?.key
        if (page.length < listPage) break
      }
    }
    return all
  })

  const statusOf = Effect.fnUntraced(function*(
    principal: Principal,
    found: Membership,
    requirement: Requirement
  ): Effect.fn.Return<CredentialStatus, CredentialError> {
    const { key } = requirement
    const allowed = scopesOf(requirement)
    const owners = Rights.ownersOf(readOrder, principal, found).filter(({ scope }) => allowed.includes(scope))
    const [row, ...others] = yield* stored(repository.find({ key, owners }))
    const scope = Rights.impliedScope(found, requirement)
    const affiliation = Rights.affiliationOf(principal, found, scope)
    const common = {
      key,
      label: requirement.label,
      helpUrl: requirement.helpUrl ?? null,
      kind: requirement.kind ?? "api-key",
      parts: partsOf(requirement),
      writeScope: affiliation !== null && mayWrite(affiliation.role) ? scope : null
    }
    if (row === undefined) {
      const environment = yield* fromEnvironment(requirement)
      return new CredentialStatus({
        ...common,
        state: environment === undefined ? "unset" : "set",
        source: environment === undefined ? null : "environment",
        shadowed: [],
        updatedAt: null,
        rejectedUntil: null
      })
    }
    const readable = yield* openRow(requirement, row).pipe(
      Effect.as(true),
      Effect.catchReason("CredentialError", "Undecryptable", () => Effect.succeed(false))
    )
    const nowMillis = yield* Clock.currentTimeMillis
    const rejected = row.rejectedUntilMillis !== null && row.rejectedUntilMillis > nowMillis
    return new CredentialStatus({
      ...common,
      state: !readable ? "undecryptable" : rejected ? "invalid" : "set",
      source: row.scope,
      shadowed: others.map((other) => other.scope),
      updatedAt: DateTime.makeUnsafe(row.updatedAtMillis),
      rejectedUntil: rejected ? DateTime.makeUnsafe(row.rejectedUntilMillis ?? 0) : null
    })
  })

  const test = Effect.fn("CredentialScopeResolver.test")(function*(
    principal: Principal,
    key: string
  ): Effect.fn.Return<Verdict, CredentialError> {
    const requirement = yield* requirementOf(key)
    const found = yield* lookFor(principal, requirement)
    const { validator } = requirement
    if (validator === undefined) return found === undefined ? { _tag: "NeedsToken" } : { _tag: "Unchecked" }
    if (found !== undefined) yield* audit(principal, found)
    const verdict = yield* validator(Option.map(Option.fromUndefinedOr(found), ({ values }) => values)).pipe(
      Effect.timeoutOrElse({
        duration: testTimeout,
        orElse: () => Effect.succeed<Verdict>({ _tag: "ProviderDown", detail: "It did not answer in time" })
      })
    )
    const row = found?.row
    if (row !== undefined && (verdict._tag === "Rejected" || verdict._tag === "Valid")) {
      const nowMillis = yield* Clock.currentTimeMillis
      yield* stored(repository.mark({
        place: { scope: row.scope, owner: row.owner, key },
        revision: row.revision,
        rejectedUntilMillis: verdict._tag === "Rejected" ? nowMillis + rejectedForMillis : null
      }, { actor: principal.subject, nowMillis })).pipe(Effect.ensuring(Effect.sync(() => cache.forget(key))))
    }
    return verdict
  })

  return CredentialScopeResolver.of({
    resolve,
    resolveBundle,
    require: (principal, key) => Effect.flatMap(resolve(principal, key), orNotSet(key)),
    requireBundle: (principal, key) => Effect.flatMap(resolveBundle(principal, key), orNotSet(key)),
    writeScope: Effect.fn("CredentialScopeResolver.writeScope")(function*(principal, key) {
      const requirement = yield* requirementOf(key)
      const found = yield* lookUp(principal)
      return yield* Rights.permit(principal, found, key, Rights.impliedScope(found, requirement))
    }),
    write,
    remove,
    list,
    status: Effect.fn("CredentialScopeResolver.status")(function*(principal) {
      const found = yield* lookUp(principal)
      return yield* Effect.forEach(requirements.all, (requirement) => statusOf(principal, found, requirement))
    }),
    test
  })
})

/**
 * Provides the service with given settings.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<CredentialScopeResolver, never, Services> =>
  Layer.effect(CredentialScopeResolver, make(options))

/**
 * Provides the service with the default settings of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<CredentialScopeResolver, never, Services> = layerWith({})
