/**
 * Credentials of providers that belong to a user, an organisation or a workspace: who may write which, whose is used, and
 * who was given it.
 *
 * Values are encrypted with {@link SecretKeys}, bound to scope, owner, key and revision. What a process has read it keeps,
 * decrypted, for as long as the access feed tells it of changes.
 */
import { AccessRepository } from "../access/AccessRepository.ts"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Aead from "effect/crypto/Aead"
import type * as Kdf from "effect/crypto/Kdf"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { AccessEvent } from "../access/AccessEvent.ts"
import {
  CredentialRequirements,
  partsOf,
  type Requirement,
  scopesOf,
  singlePart,
  type Verdict
} from "./CredentialRequirements.ts"
import { CredentialStatus } from "./CredentialStatus.ts"
import * as AccessFollower from "../access/internal/accessFollower.ts"
import * as CredentialCache from "./internal/credentialCache.ts"
import {
  CredentialError,
  CredentialRejected,
  fail,
  InvalidInput,
  NotPermitted,
  NotSet,
  OrgLookupFailed,
  ScopeNotAllowed,
  stored,
  storeFailure,
  Undecryptable,
  UnknownKey,
  ValueTooLarge,
  WrongParts
} from "./internal/credentialErrors.ts"
import {
  type InvalidCredentialScopeResolverOptions,
  type Options,
  type Settings,
  settings
} from "./internal/credentialOptions.ts"
import * as CredentialReads from "./internal/credentialReads.ts"
import type { Found } from "./internal/credentialReads.ts"
import * as Rights from "./internal/credentialRights.ts"
import type { Caller } from "./internal/credentialRights.ts"
import * as Vault from "./internal/credentialVault.ts"
import { nameRule } from "../access/internal/inputRules.ts"
import * as Input from "../Input.ts"
import * as Text from "../Text.ts"
import { mayWrite, type Membership, OrgLookupError, OrgMembership } from "./OrgMembership.ts"
import { CredentialKey, CredentialScope, type ScopedCredential } from "../access/ScopedCredential.ts"
import { type ScopedCredentialRow, type ScopedOwner } from "../access/ScopedCredentialRepository.ts"
import type { SecretKeys } from "../secrets/SecretKeys.ts"

export {
  CredentialError,
  CredentialRejected,
  CredentialStoreUnavailable,
  InvalidInput,
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
export { type Options, InvalidCredentialScopeResolverOptions } from "./internal/credentialOptions.ts"
export type { Found } from "./internal/credentialReads.ts"
export type { Caller } from "./internal/credentialRights.ts"
export { rotate, type RotationReport } from "./internal/credentialRotation.ts"

// -----------------------------------------------------------------------------
// Models and service
// -----------------------------------------------------------------------------

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
  /** A scope that has one too and is read first: the writer goes on getting that one. */
  readonly shadowedBy: CredentialScope | null
}

/**
 * Provides scoped credentials. Each operation looks the caller's organisation up, and fails if that fails.
 *
 * **Example** (Keeping an API key of a user)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import {
 *   CredentialRequirements,
 *   CredentialScopeResolver,
 *   OrgMembership,
 *   Repositories,
 *   SecretKeys
 * } from "@sallyport/core"
 * import { Console, Effect, Layer, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const credentials = yield* CredentialScopeResolver.CredentialScopeResolver
 *   const ada = { subject: "ada" }
 *   yield* credentials.write(ada, {
 *     key: "acme.api-key",
 *     values: new Map([["value", Redacted.make("sk-123")]])
 *   })
 *   const { source, value } = yield* credentials.require(ada, "acme.api-key")
 *   yield* Console.log(source, Redacted.value(value))
 *   // => user sk-123
 *   const { reason } = yield* Effect.flip(credentials.require({ subject: "bob" }, "acme.api-key"))
 *   yield* Console.log(reason._tag)
 *   // => NotSet
 * })
 *
 * const Credentials = CredentialScopeResolver.layer.pipe(
 *   Layer.provide([
 *     CredentialRequirements.layer([{ key: "acme.api-key", label: "Acme API key" }]),
 *     OrgMembership.layerNone,
 *     Repositories.layerMemory,
 *     // A host keeps its key in a variable, a file or the keyring; this one is of the example.
 *     SecretKeys.layerKeys({ active: Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => index)) })
 *   ]),
 *   Layer.provide(NodeCrypto.layer)
 * )
 *
 * Effect.runPromise(Effect.provide(program, Credentials))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class CredentialScopeResolver extends Context.Service<CredentialScopeResolver, {
  /**
   * Returns the value that a caller uses: the first in the order of reading. One that is there but rejected or undecryptable
   * is an error, and no other is used in its place. A bundle has no single value: that is {@link WrongParts}.
   */
  readonly resolve: (caller: Caller, key: string) => Effect.Effect<Option.Option<Resolved>, CredentialError>
  /** Returns all parts of a credential, of one scope and one write. */
  readonly resolveBundle: (
    caller: Caller,
    key: string
  ) => Effect.Effect<Option.Option<ResolvedBundle>, CredentialError>
  /** Does what `resolve` does; if nothing is set it fails with {@link NotSet}, which says what to ask people for. */
  readonly require: (caller: Caller, key: string) => Effect.Effect<Resolved, CredentialError>
  /** Does what `resolveBundle` does, and fails with {@link NotSet}. */
  readonly requireBundle: (caller: Caller, key: string) => Effect.Effect<ResolvedBundle, CredentialError>
  /** Says where a write goes that names no scope, and whose it is then. */
  readonly writeScope: (caller: Caller, key: string) => Effect.Effect<ScopedOwner, CredentialError>
  /**
   * Stores a value in place of the one in the same place, all parts in one step. Without `scope` it goes where `writeScope`
   * says; the writer's own credential, which would be read first, is then removed in the same step. With `scope` it stays,
   * and is reported as `shadowedBy`. Rights are checked before anything is written.
   */
  readonly write: (caller: Caller, options: {
    readonly key: string
    readonly values: ReadonlyMap<string, Redacted.Redacted>
    readonly scope?: string | undefined
  }) => Effect.Effect<Written, CredentialError>
  /**
   * Removes the credential that the caller uses: the first that exists in the order of reading, whatever the caller's role
   * was when it was written. If that is not the caller's to remove it fails with {@link NotPermitted}, and nothing else is
   * removed in its place. `scope` names another one. A key that is not declared any more can be removed too.
   */
  readonly remove: (caller: Caller, options: {
    readonly key: string
    readonly scope?: string | undefined
  }) => Effect.Effect<ScopedCredential, CredentialError>
  /** Returns what the caller, and the organisation and workspace that the caller is active in, have. Nothing is decrypted. */
  readonly list: (caller: Caller) => Effect.Effect<ReadonlyArray<ScopedCredential>, CredentialError>
  /**
   * Returns the state of every declared credential as the caller would get it, in the order of the keys. Values are
   * decrypted to see whether they can be, and given to no caller.
   */
  readonly status: (caller: Caller) => Effect.Effect<ReadonlyArray<CredentialStatus>, CredentialError>
  /**
   * Has the provider check the credential that the caller uses. `Rejected` marks that very revision as rejected for a
   * limited time, `Valid` takes the mark away, and nothing else changes it.
   */
  readonly test: (caller: Caller, key: string) => Effect.Effect<Verdict, CredentialError>
}>()("@sallyport/core/credentials/CredentialScopeResolver") {}

const isKey = Schema.is(CredentialKey)

// -----------------------------------------------------------------------------
// Resolver
// -----------------------------------------------------------------------------

/** What is found of a credential: its row opened, or its values of the environment. */
interface Candidate extends Found {
  readonly row: ScopedCredentialRow | undefined
  readonly values: ReadonlyMap<string, Redacted.Redacted>
}

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements =
  | AccessRepository
  | OrgMembership
  | CredentialRequirements
  | SecretKeys
  | Aead.Aead
  | Kdf.Kdf
  | SecureRandom.SecureRandom

const checkInput = Input.check((problem) => new CredentialError({ reason: new InvalidInput(problem) }))

const build = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<
  CredentialScopeResolver["Service"],
  never,
  Requirements | Scope.Scope
> {
  const repository = (yield* AccessRepository).credentials
  const membership = yield* OrgMembership
  const requirements = yield* CredentialRequirements
  const random = yield* SecureRandom.SecureRandom
  const { maxValueBytes, readOrder } = settings
  const vault = yield* Vault.make(settings.storeId)

  // ---------------------------------------------------------------------------
  // Who and where
  // ---------------------------------------------------------------------------

  const requirementOf = (key: string): Effect.Effect<Requirement, CredentialError> => {
    const requirement = requirements.get(key)
    return Option.isNone(requirement) ? fail(new UnknownKey({ key })) : Effect.succeed(requirement.value)
  }

  const lookUp = ({ subject }: Caller): Effect.Effect<Membership, CredentialError> =>
    Effect.andThen(
      checkInput({ subject: nameRule }, { subject }),
      membership.active(subject).pipe(
        Effect.filterOrFail(
          ({ org, workspace }) => [org, workspace].every((one) => one === null || Text.isKey(one.id)),
          () => new OrgLookupError({ cause: new Error("The look-up answered with an id that is none") })
        ),
        Effect.mapError((cause) => new CredentialError({ reason: new OrgLookupFailed({ cause }) }))
      )
    )

  // ---------------------------------------------------------------------------
  // Looking up
  // ---------------------------------------------------------------------------

  const cache = CredentialCache.make<Candidate>(settings.cacheCapacity)
  const follower = yield* AccessFollower.make({
    trustMillis: settings.trustMillis,
    onEvents: (events: ReadonlyArray<AccessEvent>) => {
      for (const { change } of events) {
        if (change._tag === "credentialUpserted") cache.forget(change.credential.key)
        else if (change._tag === "credentialRemoved") cache.forget(change.key)
      }
    },
    onGap: cache.forgetAll
  })
  // Values don't outlive the service in memory that a caller may still hold on to.
  yield* Effect.addFinalizer(() => Effect.sync(cache.forgetAll))

  const audit = yield* CredentialReads.make(settings.auditMillis)

  const fromEnvironment = Effect.fnUntraced(function*(requirement: Requirement) {
    if (requirement.environment === undefined) return undefined
    const values = new Map<string, Redacted.Redacted>()
    for (const [part, variable] of Object.entries(requirement.environment)) {
      const found = yield* Effect.mapError(Config.option(Config.Redacted(variable)), storeFailure)
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
    caller: Caller,
    requirement: Requirement
  ): Effect.fn.Return<Candidate | undefined, CredentialError> {
    const allowed = scopesOf(requirement)
    const owners = Rights.ownersOf(readOrder, caller, yield* lookUp(caller)).filter(({ scope }) =>
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
    caller: Caller,
    requirement: Requirement
  ): Effect.fn.Return<Option.Option<ResolvedBundle>, CredentialError> {
    const found = yield* lookFor(caller, requirement)
    if (found === undefined) return Option.none()
    const until = found.row?.rejectedUntilMillis ?? null
    if (found.row !== undefined && until !== null && until > (yield* Clock.currentTimeMillis)) {
      return yield* fail(
        new CredentialRejected({ key: found.key, scope: found.row.scope, until: DateTime.makeUnsafe(until) })
      )
    }
    yield* audit(caller, found)
    const { key, owner, revision, source, values } = found
    return Option.some({ key, source, owner, revision, values })
  })

  const resolveBundle = Effect.fn("CredentialScopeResolver.resolveBundle")(function*(
    caller: Caller,
    key: string
  ) {
    return yield* obtain(caller, yield* requirementOf(key))
  })

  const resolve = Effect.fn("CredentialScopeResolver.resolve")(function*(
    caller: Caller,
    key: string
  ): Effect.fn.Return<Option.Option<Resolved>, CredentialError> {
    const requirement = yield* requirementOf(key)
    const [part = singlePart, ...others] = partsOf(requirement)
    if (others.length > 0) return yield* fail(new WrongParts({ key, expected: partsOf(requirement) }))
    return Option.map(yield* obtain(caller, requirement), ({ owner, revision, source, values }) => ({
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
        const requirement = Option.getOrUndefined(requirements.get(key))
        return fail(
          new NotSet({ key, label: requirement?.label ?? key, helpUrl: requirement?.helpUrl ?? null })
        )
      }
    })

  const write = Effect.fn("CredentialScopeResolver.write")(function*(caller: Caller, request: {
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

    const found = yield* lookUp(caller)
    const { owner, scope } = yield* Rights.permit(
      caller,
      found,
      key,
      asked ?? Rights.impliedScope(found, requirement)
    )
    const rank = readOrder.indexOf(scope)
    const allowed = scopesOf(requirement)
    const ahead = Rights.ownersOf(readOrder, caller, found).filter((candidate) =>
      readOrder.indexOf(candidate.scope) < rank && allowed.includes(candidate.scope)
    )
    const own = asked === undefined && scope !== "user" && ahead.some((candidate) => candidate.scope === "user")
      ? { scope: "user" as const, owner: caller.subject, key }
      : undefined
    const place = { scope, owner, key, revision: Hex.encode(yield* random.randomBytes(16)) }
    const sealed = yield* vault.sealBytes(place, bytes)
    const nowMillis = yield* Clock.currentTimeMillis
    const credential = yield* stored(repository.put(
      { ...place, ...sealed, updatedAtMillis: nowMillis, updatedBy: caller.subject },
      own,
      { actor: caller.subject, nowMillis }
    )).pipe(Effect.ensuring(Effect.sync(() => cache.forget(key))))
    const [shadowing] = ahead.length === 0 ? [] : yield* stored(repository.find({ key, owners: ahead }))
    return { credential, shadowedBy: shadowing?.scope ?? null }
  })

  const remove = Effect.fn("CredentialScopeResolver.remove")(function*(caller: Caller, request: {
    readonly key: string
    readonly scope?: string | undefined
  }): Effect.fn.Return<ScopedCredential, CredentialError> {
    const { key, scope } = request
    if (!isKey(key)) return yield* fail(new UnknownKey({ key }))
    if (scope !== undefined && !Rights.isScope(scope)) {
      return yield* fail(new ScopeNotAllowed({ key, scope, allowed: CredentialScope.literals }))
    }
    const found = yield* lookUp(caller)
    // A scope that is not declared any more is not one that the caller uses, and is named to be removed.
    const requirement = Option.getOrUndefined(requirements.get(key))
    const used = requirement === undefined ? readOrder : scopesOf(requirement)
    const candidates = scope === undefined
      ? Rights.ownersOf(readOrder, caller, found).filter((owner) => used.includes(owner.scope))
      : [{ ...(yield* Rights.permit(caller, found, key, scope)), removable: true }]
    const nowMillis = yield* Clock.currentTimeMillis
    const outcome = yield* stored(
      repository.remove({ key, candidates }, { actor: caller.subject, nowMillis })
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

  const list = Effect.fn("CredentialScopeResolver.list")(function*(caller: Caller) {
    const all: Array<ScopedCredential> = []
    for (const owner of Rights.ownersOf(readOrder, caller, yield* lookUp(caller))) {
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
    caller: Caller,
    found: Membership,
    requirement: Requirement
  ): Effect.fn.Return<CredentialStatus, CredentialError> {
    const { key } = requirement
    const allowed = scopesOf(requirement)
    const owners = Rights.ownersOf(readOrder, caller, found).filter(({ scope }) => allowed.includes(scope))
    const [row, ...others] = yield* stored(repository.find({ key, owners }))
    const scope = Rights.impliedScope(found, requirement)
    const affiliation = Rights.affiliationOf(caller, found, scope)
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
    caller: Caller,
    key: string
  ): Effect.fn.Return<Verdict, CredentialError> {
    const requirement = yield* requirementOf(key)
    const found = yield* lookFor(caller, requirement)
    const { validator } = requirement
    if (validator === undefined) return found === undefined ? { _tag: "NeedsToken" } : { _tag: "Unchecked" }
    if (found !== undefined) yield* audit(caller, found)
    const verdict = yield* validator(Option.map(Option.fromUndefinedOr(found), ({ values }) => values)).pipe(
      Effect.timeoutOrElse({
        duration: settings.testMillis,
        orElse: () => Effect.succeed<Verdict>({ _tag: "ProviderDown", detail: "It did not answer in time" })
      })
    )
    const row = found?.row
    if (row !== undefined && (verdict._tag === "Rejected" || verdict._tag === "Valid")) {
      const nowMillis = yield* Clock.currentTimeMillis
      yield* stored(repository.mark({
        place: { scope: row.scope, owner: row.owner, key },
        revision: row.revision,
        rejectedUntilMillis: verdict._tag === "Rejected" ? nowMillis + settings.rejectedMillis : null
      }, { actor: caller.subject, nowMillis })).pipe(Effect.ensuring(Effect.sync(() => cache.forget(key))))
    }
    return verdict
  })

  return CredentialScopeResolver.of({
    resolve,
    resolveBundle,
    require: Effect.fn("CredentialScopeResolver.require")((caller, key) =>
      Effect.flatMap(resolve(caller, key), orNotSet(key))
    ),
    requireBundle: Effect.fn("CredentialScopeResolver.requireBundle")((caller, key) =>
      Effect.flatMap(resolveBundle(caller, key), orNotSet(key))
    ),
    writeScope: Effect.fn("CredentialScopeResolver.writeScope")(function*(caller, key) {
      const requirement = yield* requirementOf(key)
      const found = yield* lookUp(caller)
      return yield* Rights.permit(caller, found, key, Rights.impliedScope(found, requirement))
    }),
    write,
    remove,
    list,
    status: Effect.fn("CredentialScopeResolver.status")(function*(caller) {
      const found = yield* lookUp(caller)
      return yield* Effect.forEach(requirements.all, (requirement) => statusOf(caller, found, requirement))
    }),
    test
  })
})

/**
 * Creates the service; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  CredentialScopeResolver["Service"],
  InvalidCredentialScopeResolverOptions,
  Requirements | Scope.Scope
> => Effect.flatMap(settings.fromObject(options), build)

/**
 * Provides the service with given options. Fails if they cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  CredentialScopeResolver,
  InvalidCredentialScopeResolverOptions,
  Requirements
> => Layer.effect(CredentialScopeResolver, make(options))

/**
 * Provides the service with the options of the configuration, in variables that begin with `SALLYPORT_CREDENTIALS_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  CredentialScopeResolver,
  Config.ConfigError | InvalidCredentialScopeResolverOptions,
  Requirements
> = Layer.effect(CredentialScopeResolver, Effect.flatMap(settings.fromConfig, build))

/**
 * Provides the service with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<CredentialScopeResolver, never, Requirements> = Layer.effect(
  CredentialScopeResolver,
  Effect.flatMap(settings.defaults, build)
)
