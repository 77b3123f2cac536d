/** Tells of any failure of a command which exit code and which sentence it has. */
import { LinkFailed, NotLinked } from "@sallyport/connect/Linking"
import type { AccessStreamFailure } from "@sallyport/contract/AccessGroup"
import * as WireError from "@sallyport/contract/WireError"
import { AccessFeedError } from "@sallyport/core/access/AccessFeed"
import { BootstrapCredentialError } from "@sallyport/core/access/BootstrapCredentialService"
import { InvalidBaseUrl } from "@sallyport/core/access/PairingUrl"
import { SessionCredentialError } from "@sallyport/core/access/SessionCredentialService"
import { ConnectClientError } from "@sallyport/core/connect/ConnectClientStore"
import { CredentialError } from "@sallyport/core/credentials/CredentialScopeResolver"
import { RunEventLogError } from "@sallyport/core/runs/RunEventLog"
import { SecretStoreError } from "@sallyport/core/secrets/SecretStore"
import * as CliError from "effect/cli/CliError"
import * as HttpClientError from "effect/http/HttpClientError"
import * as Schema from "effect/Schema"
import { EmptyDatabase } from "../Persistence.ts"
import { CommandFailed, type ExitCode } from "../ExitCode.ts"

const serviceErrors = [
  AccessFeedError,
  BootstrapCredentialError,
  ConnectClientError,
  CredentialError,
  RunEventLogError,
  SecretStoreError,
  SessionCredentialError
] as const

type ServiceError = InstanceType<typeof serviceErrors[number]>

/** The exit code of each reason of the services' errors. */
const codeByReason: Readonly<Record<ServiceError["reason"]["_tag"], ExitCode>> = {
  AccessFeedUnavailable: "Unavailable",
  AlreadySeeded: "Conflict",
  ApproverEnded: "SignedOut",
  BootstrapStoreUnavailable: "Unavailable",
  ClientAmbiguous: "Ambiguous",
  ClientNotFound: "NotFound",
  CodeNeeded: "InvalidInput",
  ConnectStoreUnavailable: "Unavailable",
  Corrupt: "Unreadable",
  CredentialRejected: "NotValid",
  CredentialStoreUnavailable: "Unavailable",
  CurrentSessionProtected: "Conflict",
  CursorBeyondEnd: "InvalidInput",
  CursorExpired: "Expired",
  Fenced: "Conflict",
  IdempotencyConflict: "Conflict",
  Insecure: "Unreadable",
  InvalidCredential: "InvalidInput",
  InvalidCursor: "InvalidInput",
  InvalidInput: "InvalidInput",
  InvalidName: "InvalidInput",
  IssuerEnded: "Conflict",
  LabelNotAllowed: "InvalidInput",
  LifetimeOutOfBounds: "InvalidInput",
  LimitExceeded: "InvalidInput",
  LinkNotFound: "NotFound",
  MalformedCode: "InvalidInput",
  MethodNotOffered: "NotAllowed",
  NoActiveOrg: "NotAllowed",
  NotPermitted: "NotAllowed",
  NotSet: "NotFound",
  OrgLookupFailed: "Unavailable",
  QuestionAnswered: "Conflict",
  QuestionNotFound: "NotFound",
  ReasonNotAllowed: "InvalidInput",
  RefreshRefused: "SignedOut",
  RequestChanged: "Changed",
  RequestExpired: "Expired",
  RequestRefused: "NotAllowed",
  RevisionExpired: "Expired",
  RevisionUnknown: "InvalidInput",
  RunEnded: "Conflict",
  RunCompacted: "Conflict",
  RunNotEnded: "Conflict",
  RunNotFound: "NotFound",
  ScopeNotAllowed: "NotAllowed",
  ScopeNotGrantable: "NotAllowed",
  ScopeNotGranted: "NotAllowed",
  ScopeNotHeld: "NotAllowed",
  ScopeRequestChanged: "Changed",
  SecurityModeUnreadable: "Unreadable",
  SessionLifetimeOutOfBounds: "InvalidInput",
  SessionNotFound: "NotFound",
  SessionRefused: "SignedOut",
  SessionStoreUnavailable: "Unavailable",
  ShuttingDown: "Unavailable",
  StorageFailure: "Unavailable",
  SubjectNotAllowed: "InvalidInput",
  ThreadBusy: "Conflict",
  ThreadNotFound: "NotFound",
  TicketRefused: "SignedOut",
  TooManyAttempts: "Conflict",
  TooManyLetIn: "Conflict",
  TooManyCodes: "Conflict",
  TooManyOpenLinks: "Conflict",
  TooManyRuns: "Conflict",
  TooManyScopeRequests: "Conflict",
  TooManyWaiting: "Conflict",
  Undecryptable: "Unreadable",
  UnknownKey: "NotFound",
  Unusable: "Unreadable",
  ValueTooLarge: "InvalidInput",
  WeakCredential: "InvalidInput",
  WrongParts: "InvalidInput"
}

/** The errors that a server answers, and the exit code of each; two more have one for each of their codes. */
const wireErrors = [
  [WireError.InvalidRequest, "InvalidInput"],
  [WireError.Unauthorized, "SignedOut"],
  [WireError.Forbidden, "NotAllowed"],
  [WireError.NotFound, "NotFound"],
  [WireError.Gone, "Expired"],
  [WireError.TooLarge, "InvalidInput"],
  [WireError.UnsupportedMediaType, "Failed"],
  [WireError.IdempotencyConflict, "Conflict"],
  [WireError.TooManyRequests, "Conflict"],
  [WireError.Unavailable, "Unavailable"],
  [WireError.InternalError, "Failed"],
  [WireError.OAuthInvalidClient, "Failed"],
  [WireError.OAuthTooManyRequests, "Conflict"],
  [WireError.OAuthUnavailable, "Unavailable"],
  [WireError.OAuthInternalError, "Failed"]
] as const

/** Decodes the error that a server answers. */
export const decodeWireError = Schema.decodeUnknownEffect(
  Schema.Union([WireError.Conflict, WireError.OAuthError, ...wireErrors.map(([type]) => type)])
)

const codeByConflict: Readonly<Record<WireError.Conflict["code"], ExitCode>> = {
  connect_client_ambiguous: "Ambiguous",
  connect_request_expired: "Expired",
  connect_request_changed: "Changed",
  scope_request_changed: "Changed",
  security_mode_unreadable: "Unreadable",
  current_session: "Conflict",
  too_many_links: "Conflict",
  too_many_sessions: "Conflict",
  too_many_runs: "Conflict",
  thread_busy: "Conflict",
  cursor_beyond_end: "InvalidInput",
  run_ended: "Conflict",
  question_answered: "Conflict",
  no_active_org: "NotAllowed",
  undecryptable: "Unreadable"
}

const codeByOAuthError: Readonly<Record<WireError.OAuthError["error"], ExitCode>> = {
  invalid_request: "InvalidInput",
  invalid_client: "Failed",
  invalid_grant: "InvalidInput",
  invalid_scope: "NotAllowed",
  invalid_target: "InvalidInput",
  unsupported_grant_type: "NotAllowed",
  authorization_pending: "Unavailable",
  slow_down: "Unavailable",
  access_denied: "NotAllowed",
  expired_token: "Expired",
  invalid_dpop_proof: "SignedOut",
  use_dpop_nonce: "SignedOut"
}

const codeByStreamFailure: ReadonlyMap<string, ExitCode> = new Map([
  ["session_ended", "SignedOut"],
  ["run_not_found", "NotFound"],
  ["cursor_expired", "Expired"]
])

/** Names the exit code of what a server sends as the end of a stream. */
export const codeOfStream = ({ code, retryable }: typeof AccessStreamFailure.Type): ExitCode =>
  codeByStreamFailure.get(code) ?? (retryable ? "Unavailable" : "Failed")

const isServiceError = (error: unknown): error is ServiceError => serviceErrors.some((type) => error instanceof type)

/** Names the exit code of what a command failed with, by its type. */
export const codeOf = (error: unknown): ExitCode => {
  if (error instanceof CommandFailed) return error.code
  if (CliError.isCliError(error)) return "Usage"
  if (isServiceError(error)) return codeByReason[error.reason._tag]
  if (error instanceof NotLinked) return "NotLinked"
  if (error instanceof EmptyDatabase) return "NoState"
  if (error instanceof LinkFailed) return "Failed"
  if (error instanceof WireError.Conflict) return codeByConflict[error.code]
  if (error instanceof WireError.OAuthError) return codeByOAuthError[error.error]
  if (HttpClientError.isHttpClientError(error)) return "Unavailable"
  // What a server answers is told apart before: this is what the caller has written.
  if (Schema.isSchemaError(error) || error instanceof InvalidBaseUrl) return "InvalidInput"
  return wireErrors.find(([type]) => error instanceof type)?.[1] ?? "Failed"
}
