/**
 * Describes what the commands print with `--json`: one object for each answer, and one for each line of a tail. The answers
 * have the same form whether they come from a store or, with `--url`, from a server.
 */
import { ListedSessionView, PairingLinkView, PolicyView, SessionView } from "@sallyport/contract/AccessSchemas"
import { ConnectClientView } from "@sallyport/contract/ConnectGroup"
import { EnvironmentHealth, EnvironmentLinkView } from "@sallyport/contract/ConnectProtocol"
import { CredentialView } from "@sallyport/contract/CredentialGroup"
import { RunView } from "@sallyport/contract/RunGroup"
import { CredentialScope } from "@sallyport/core/access/ScopedCredential"
import { SecurityMode } from "@sallyport/core/access/ConnectClient"
import { Verdict } from "@sallyport/core/credentials/CredentialRequirements"
import { CredentialStatus } from "@sallyport/core/credentials/CredentialStatus"
import { RunEventKind } from "@sallyport/core/runs/Run"
import * as Schema from "effect/Schema"

/**
 * Describes the line of `serve`. Under `unsafe-no-auth` there is the address alone. `urls` are those of other machines if
 * their browsers cannot pair. The code and the address with it are secret: they let one device in.
 *
 * @category models
 * @since 0.1.0
 */
export const Serving = Schema.Struct({
  url: Schema.String,
  pairingUrl: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
  code: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
  urls: Schema.optionalKey(Schema.Array(Schema.String)),
  expiresAt: Schema.optionalKey(Schema.DateTimeUtcFromString)
})

/**
 * Describes what `sessions list` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const Sessions = Schema.Struct({ sessions: Schema.Array(ListedSessionView) })

/**
 * Describes what `links list` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const Links = Schema.Struct({ links: Schema.Array(PairingLinkView) })

/**
 * Describes what `links revoke` and `sessions revoke` print of one link or session: its id.
 *
 * @category models
 * @since 0.1.0
 */
export const Revoked = Schema.Struct({ revoked: Schema.String })

/**
 * Describes what `sessions revoke --all` and `sessions revoke-others` print: how many sessions have ended.
 *
 * @category models
 * @since 0.1.0
 */
export const RevokedCount = Schema.Struct({ revoked: Schema.Natural })

/**
 * Describes what `pair` prints. The code and the address with it are secret: they let one device in.
 *
 * @category models
 * @since 0.1.0
 */
export const Pairing = Schema.Struct({
  link: PairingLinkView,
  code: Schema.RedactedFromValue(Schema.String),
  pairingUrl: Schema.RedactedFromValue(Schema.String)
})

/**
 * Describes what `sessions grant` and `sessions deny` print: the session as it is then.
 *
 * @category models
 * @since 0.1.0
 */
export const AnsweredSession = Schema.Struct({ session: SessionView })

/**
 * Describes what `sessions issue` prints. The token is secret, and is shown only here.
 *
 * @category models
 * @since 0.1.0
 */
export const IssuedToken = Schema.Struct({
  token: Schema.RedactedFromValue(Schema.String),
  scopes: Schema.Array(Schema.String),
  expiresAt: Schema.DateTimeUtcFromString
})

/**
 * Describes what `connect clients` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const ConnectClients = Schema.Struct({ clients: Schema.Array(ConnectClientView) })

/**
 * Describes what a decision about a client prints.
 *
 * @category models
 * @since 0.1.0
 */
export const Decision = Schema.Struct({ client: ConnectClientView })

/**
 * Describes what `connect security` prints; `approved` only if it sets the mode.
 *
 * @category models
 * @since 0.1.0
 */
export const Security = Schema.Struct({
  mode: SecurityMode,
  approved: Schema.optionalKey(Schema.Array(ConnectClientView))
})

/**
 * Describes a line of `connect watch`.
 *
 * @category models
 * @since 0.1.0
 */
export const ConnectChange = Schema.Union([
  Decision,
  Schema.Struct({ removed: Schema.String, reason: Schema.String }),
  Schema.Struct({ mode: SecurityMode })
])

/**
 * Describes what `credentials list` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const Credentials = Schema.Struct({ credentials: Schema.Array(CredentialView) })

/**
 * Describes what `credentials status` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialStates = Schema.Struct({ credentials: Schema.Array(CredentialStatus) })

/**
 * Describes what `credentials set` prints; `shadowedBy` is a scope that also has this credential and is read first.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialSet = Schema.Struct({
  credential: CredentialView,
  shadowedBy: Schema.NullOr(CredentialScope)
})

/**
 * Describes what `credentials remove` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialRemoved = Schema.Struct({ removed: CredentialView })

/**
 * Describes what `credentials test` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialVerdict = Schema.Struct({ verdict: Verdict })

/**
 * Describes what `connect status` prints; `link` is null if the backend is linked to no relay.
 *
 * @category models
 * @since 0.1.0
 */
export const ConnectStatus = Schema.Struct({
  mode: SecurityMode,
  link: Schema.NullOr(EnvironmentLinkView)
})

/**
 * Describes what `connect link` prints; `health` is what the relay found at the address, or null if it is not known.
 *
 * @category models
 * @since 0.1.0
 */
export const Linked = Schema.Struct({
  environmentId: Schema.String,
  account: Schema.String,
  relayUrl: Schema.String,
  health: Schema.NullOr(EnvironmentHealth)
})

/**
 * Describes what `connect rotate-key` prints; `previousUntil` is null until the relay has seen the new key.
 *
 * @category models
 * @since 0.1.0
 */
export const RotatedKey = Schema.Struct({
  keyId: Schema.String,
  previousUntil: Schema.NullOr(Schema.DateTimeUtcFromString)
})

/**
 * Describes what `connect unlink` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const Unlinked = Schema.Struct({ link: Schema.Null, relayTold: Schema.Boolean })

/**
 * Describes what `runs list` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const Runs = Schema.Struct({ runs: Schema.Array(RunView) })

/**
 * Describes what `runs start`, `runs answer` and `runs abort` print.
 *
 * @category models
 * @since 0.1.0
 */
export const Run = Schema.Struct({ run: RunView })

/**
 * Describes a line of `runs tail`. `seq` is the number to go on after; null for an end that has none.
 *
 * @category models
 * @since 0.1.0
 */
export const RunEvent = Schema.Struct({ seq: Schema.NullOr(Schema.Natural), kind: RunEventKind, data: Schema.Json })

/**
 * Describes what `runs sweep` prints: how many runs it ended, and how many rows of each kind it deleted.
 *
 * @category models
 * @since 0.1.0
 */
export const Swept = Schema.Struct({
  ended: Schema.Natural,
  expired: Schema.Natural,
  events: Schema.Natural,
  removed: Schema.Natural,
  aborts: Schema.Natural
})

/**
 * Describes a line of `feed tail`. `id` is the number to go on after, and `data` has the form that the contract's
 * `AccessGroup.feedData` has for the event.
 *
 * @category models
 * @since 0.1.0
 */
export const FeedEvent = Schema.Struct({ id: Schema.NullOr(Schema.String), event: Schema.String, data: Schema.Json })

/**
 * Describes what `secrets list` and `secrets verify` print; `problem` says why a secret cannot be read.
 *
 * @category models
 * @since 0.1.0
 */
export const Secrets = Schema.Struct({
  secrets: Schema.Array(Schema.Struct({
    name: Schema.String,
    versions: Schema.Natural,
    problem: Schema.NullOr(Schema.String)
  }))
})

/**
 * Describes what `secrets rotate` prints.
 *
 * @category models
 * @since 0.1.0
 */
export const RotatedSigningKey = Schema.Struct({ keyId: Schema.String })

/**
 * Describes what `status` prints. What the token of `--url` may not read, or its server does not offer, is null.
 *
 * @category models
 * @since 0.1.0
 */
export const Status = Schema.Struct({
  sessions: Schema.Natural,
  links: Schema.Natural,
  waitingClients: Schema.NullOr(Schema.Natural),
  securityMode: Schema.NullOr(SecurityMode),
  /** Whose identities are exchanged for sessions; null for a store, which only its server knows. */
  identities: Schema.NullOr(PolicyView.fields.identities)
})

/**
 * Describes what `doctor` prints: each check with what it found, and how to mend it if that is not part of it.
 *
 * @category models
 * @since 0.1.0
 */
export const Doctor = Schema.Struct({
  checks: Schema.Array(Schema.Struct({
    check: Schema.String,
    state: Schema.Literals(["good", "doubtful", "bad"]),
    detail: Schema.String,
    remedy: Schema.NullOr(Schema.String)
  }))
})

/**
 * Lists the answer of each command that takes `--json`. `output.schema.json` in the package has them as JSON Schema, under
 * `$defs`.
 *
 * @category constants
 * @since 0.1.0
 */
export const byCommand = {
  serve: Serving,
  status: Status,
  doctor: Doctor,
  pair: Pairing,
  "links list": Links,
  "links revoke": Revoked,
  "sessions list": Sessions,
  "sessions issue": IssuedToken,
  "sessions grant": AnsweredSession,
  "sessions deny": AnsweredSession,
  "sessions revoke": Schema.Union([Revoked, RevokedCount]),
  "sessions revoke-others": RevokedCount,
  "connect status": ConnectStatus,
  "connect link": Linked,
  "connect rotate-key": RotatedKey,
  "connect unlink": Unlinked,
  "connect security": Security,
  "connect clients": ConnectClients,
  "connect approve": Decision,
  "connect reject": Decision,
  "connect revoke": Decision,
  "connect block": Decision,
  "connect watch": ConnectChange,
  "credentials list": Credentials,
  "credentials status": CredentialStates,
  "credentials set": CredentialSet,
  "credentials remove": CredentialRemoved,
  "credentials test": CredentialVerdict,
  "secrets list": Secrets,
  "secrets verify": Secrets,
  "secrets rotate": RotatedSigningKey,
  "runs list": Runs,
  "runs tail": RunEvent,
  "runs answer": Run,
  "runs start": Run,
  "runs abort": Run,
  "runs sweep": Swept,
  "feed tail": FeedEvent
} as const
