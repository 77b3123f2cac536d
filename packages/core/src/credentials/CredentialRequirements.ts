/**
 * The credentials that a host's features need: each is declared once, with what people are told about it, whom it may belong
 * to, and how it is checked.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Input from "../Input.ts"
import { CredentialKey, CredentialScope } from "../access/ScopedCredential.ts"

/**
 * Names what a credential is, for the form to enter it.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialKind = Schema.Literals(["api-key", "oauth", "key-pair"])
/**
 * @see {@link CredentialKind}
 *
 * @category models
 * @since 0.1.0
 */
export type CredentialKind = typeof CredentialKind.Type

/**
 * Lists what a check of a credential can find. Only `Rejected` says something about the credential against it.
 *
 * @category models
 * @since 0.1.0
 */
export const Verdict = Schema.Union([
  /** The provider takes it; `account` says for whom, if the provider tells. */
  Schema.TaggedStruct("Valid", { account: Schema.NullOr(Schema.String) }),
  /** There is none, and what was asked for needs one. */
  Schema.TaggedStruct("NeedsToken", {}),
  /** The provider knows it and refuses it: revoked, expired, or without the permissions that are needed. */
  Schema.TaggedStruct("Rejected", { detail: Schema.String }),
  /** The provider answers no request with it until a time, or for an unknown time. */
  Schema.TaggedStruct("RateLimited", { until: Schema.NullOr(Schema.DateTimeUtcFromString) }),
  /** What was asked for is not there, or its address is malformed. */
  Schema.TaggedStruct("WrongAddress", { detail: Schema.String }),
  /** The provider cannot be reached or fails. */
  Schema.TaggedStruct("ProviderDown", { detail: Schema.String }),
  /** The declaration has no validator. */
  Schema.TaggedStruct("Unchecked", {})
])
/**
 * @see {@link Verdict}
 *
 * @category models
 * @since 0.1.0
 */
export type Verdict = typeof Verdict.Type

/**
 * Checks the parts of a credential, or that there is none, with its provider. Every failure is a {@link Verdict}.
 *
 * @category models
 * @since 0.1.0
 */
export type Validator = (
  values: Option.Option<ReadonlyMap<string, Redacted.Redacted>>
) => Effect.Effect<Verdict>

/**
 * Declares a credential.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requirement {
  readonly key: string
  /** What people call it, such as "GitHub token". */
  readonly label: string
  /** Where people get one. */
  readonly helpUrl?: string | undefined
  /** Default `api-key`. */
  readonly kind?: CredentialKind | undefined
  /** Whom it may belong to. Default a user, an organisation and a workspace. */
  readonly scopes?: ReadonlyArray<CredentialScope> | undefined
  /** The names of a bundle's parts, which are written and read together. Without it the credential is one value. */
  readonly parts?: ReadonlyArray<string> | undefined
  readonly validator?: Validator | undefined
  /**
   * Lets variables of the process stand in if no user has connected anything, for every user: the name of the variable of
   * each part, `value` if there are no parts. Default none.
   */
  readonly environment?: Readonly<Record<string, string>> | undefined
}

/**
 * Names the part of a credential that is one value.
 *
 * @category constants
 * @since 0.1.0
 */
export const singlePart = "value"

/**
 * Returns the names of a credential's parts.
 *
 * @category converting
 * @since 0.1.0
 */
export const partsOf = (requirement: Requirement): ReadonlyArray<string> => requirement.parts ?? [singlePart]

/**
 * Returns whom a credential may belong to.
 *
 * @category converting
 * @since 0.1.0
 */
export const scopesOf = (requirement: Requirement): ReadonlyArray<CredentialScope> =>
  requirement.scopes ?? CredentialScope.literals

/**
 * Reports declarations that cannot stand together, or one that cannot stand at all.
 *
 * @category errors
 * @since 0.1.0
 */
export class RequirementsError extends Schema.TaggedError<RequirementsError>()("RequirementsError", {
  key: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `The credential "${this.key}" cannot be declared: ${this.problem}`
  }
}

/**
 * Holds the declarations.
 *
 * @category services
 * @since 0.1.0
 */
export class CredentialRequirements extends Context.Service<CredentialRequirements, {
  /** Every declaration, in the order of the keys. */
  readonly all: ReadonlyArray<Requirement>
  /** Returns the declaration of a key; none if there is none. */
  readonly get: (key: string) => Option.Option<Requirement>
}>()("@sallyport/core/credentials/CredentialRequirements") {}

const isKey = Schema.is(CredentialKey)
const isPart = Schema.is(Schema.String.check(Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/)))

const problemOf = (requirement: Requirement): string | undefined => {
  const parts = partsOf(requirement)
  if (!isKey(requirement.key)) return "a key has 1 to 128 of a-z, 0-9, \".\", \"_\" and \"-\""
  if (requirement.label.trim() === "") return "its label is empty"
  if (scopesOf(requirement).length === 0) return "it may belong to no owner"
  if (parts.length === 0 || !parts.every(isPart)) {
    return "the name of a part has 1 to 64 letters, digits, \"_\" and \"-\""
  }
  if (new Set(parts).size < parts.length) return "it has a part twice"
  const variables = Object.keys(requirement.environment ?? {})
  return requirement.environment !== undefined &&
      (variables.length !== parts.length || !parts.every((part) => variables.includes(part)))
    ? "its environment must name one variable for each part"
    : undefined
}

/**
 * Provides declarations, those of all features in one list. Fails if one is malformed, or a key is declared twice.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  requirements: ReadonlyArray<Requirement>
): Layer.Layer<CredentialRequirements, RequirementsError> =>
  Layer.effect(
    CredentialRequirements,
    Effect.gen(function*() {
      const list = { is: Array.isArray, expected: "a list of requirements" }
      Input.demand("CredentialRequirements.layer", { requirements: Input.required(list) }, { requirements })
      const byKey = new Map<string, Requirement>()
      for (const requirement of requirements) {
        const { key } = requirement
        const problem = problemOf(requirement) ??
          (byKey.has(key)
            ? `it is declared twice, as "${byKey.get(key)?.label}" and "${requirement.label}"`
            : undefined)
        if (problem !== undefined) return yield* new RequirementsError({ key, problem })
        byKey.set(key, requirement)
      }
      return CredentialRequirements.of({
        all: Array.from(byKey.values()).sort((a, b) => a.key < b.key ? -1 : 1),
        get: (key) => Option.fromUndefinedOr(byKey.get(key))
      })
    })
  )
