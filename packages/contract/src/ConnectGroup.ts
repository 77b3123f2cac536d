/**
 * Describes the endpoints with which an owner decides which clients may connect, through a relay or as devices of their own.
 */
import {
  Account,
  ClientLabel,
  ClientStatus,
  type ConnectClient,
  DeviceType,
  SecurityMode,
  Thumbprint
} from "@sallyport/core/access/ConnectClient"
import { AccessScope } from "@sallyport/core/access/AccessScope"
import * as Text from "@sallyport/core/Text"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as Schema from "effect/Schema"
import { NextPage, PageCursor } from "./AccessSchemas.ts"
import { RequestErrors, requires, ShortRequests } from "./Authentication.ts"
import {
  Conflict,
  Forbidden,
  InvalidRequest,
  NotFound,
  TooManyRequests,
  Unauthorized,
  Unavailable
} from "./WireError.ts"

/**
 * Describes a client to a caller who may decide about it.
 *
 * @category models
 * @since 0.1.0
 */
export class ConnectClientView extends Schema.Class<ConnectClientView>("@sallyport/contract/ConnectClientView")({
  proofKeyThumbprint: Thumbprint,
  account: Account,
  label: Schema.NullOr(ClientLabel),
  deviceType: DeviceType,
  status: ClientStatus,
  /** What a device asks for (RFC 8628); absent for a client of a relay. */
  requestedScopes: Schema.optionalKey(Schema.Array(AccessScope)),
  /** What its owner gave it of that; absent unless it is an approved device. */
  grantedScopes: Schema.optionalKey(Schema.Array(AccessScope)),
  /** What the client's screen shows while it waits. */
  verificationCode: Schema.String,
  firstSeenAt: Schema.DateTimeUtcFromString,
  requestedAt: Schema.DateTimeUtcFromString,
  pendingUntil: Schema.NullOr(Schema.DateTimeUtcFromString),
  decidedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  decidedBy: Schema.NullOr(Schema.String),
  reason: Schema.NullOr(Schema.String),
  lastSeenAt: Schema.NullOr(Schema.DateTimeUtcFromString)
}) {}

/**
 * Returns what a caller who may decide about a client is shown of it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connectClientView = (client: ConnectClient): ConnectClientView => new ConnectClientView({ ...client })

/** A thumbprint, or a prefix of one that no other client shares. */
const ClientName = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{1,43}$/))

const Reason = Text.typedLine(256)

const decision = <const Name extends string, const Path extends "approve" | "reject" | "revoke" | "block">(
  name: Name,
  path: Path
) =>
  HttpApiEndpoint.post(name, `/api/auth/connect-clients/${path}`, {
    payload: Schema.Struct({
      client: ClientName,
      /** The verification code that the owner saw. A client that has asked again since then is not changed. */
      code: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(16))),
      reason: Schema.optionalKey(Reason),
      /** What an approved device is granted: what it asks for, or less. All of that if absent. */
      scopes: Schema.optionalKey(Schema.Array(AccessScope).check(Schema.isMaxLength(256)))
    }),
    success: Schema.Struct({ client: ConnectClientView }),
    error: [InvalidRequest, Unauthorized, Forbidden, NotFound, Conflict, Unavailable]
  }).pipe(requires("connect:manage"))

/**
 * Groups the endpoints of the approval. A server that lets in neither devices nor clients of a relay answers 404.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class ConnectGroup extends HttpApiGroup.make("connect").add(
  HttpApiEndpoint.get("securityMode", "/api/auth/connect-security-mode", {
    success: Schema.Struct({ mode: SecurityMode }),
    error: [NotFound, Conflict, Unavailable]
  }).pipe(requires("connect:manage")),
  HttpApiEndpoint.put("setSecurityMode", "/api/auth/connect-security-mode", {
    payload: Schema.Struct({
      mode: SecurityMode,
      /** Which observed clients are approved: all of them, or those with these thumbprints. */
      trust: Schema.optionalKey(
        Schema.Union([Schema.Literal("all"), Schema.Array(Thumbprint).check(Schema.isMaxLength(1_000))])
      )
    }),
    success: Schema.Struct({ mode: SecurityMode, approved: Schema.Array(ConnectClientView) }),
    error: [InvalidRequest, NotFound, Unavailable]
  }).pipe(requires("connect:manage")),
  HttpApiEndpoint.get("clients", "/api/auth/connect-clients", {
    query: { after: Schema.optionalKey(PageCursor) },
    success: Schema.Struct({ clients: Schema.Array(ConnectClientView), next: NextPage }),
    error: [InvalidRequest, NotFound, Unavailable]
  }).pipe(requires("connect:manage")),
  // A post, so that the code stands in no address; it changes nothing.
  HttpApiEndpoint.post("find", "/api/auth/connect-clients/find", {
    payload: Schema.Struct({
      /** The code that a waiting device shows, in any case and with any punctuation. */
      code: Schema.String.check(Schema.isMaxLength(128))
    }),
    success: Schema.Struct({ client: ConnectClientView }),
    error: [InvalidRequest, NotFound, TooManyRequests, Unavailable]
  }).pipe(requires("connect:manage")),
  decision("approve", "approve"),
  decision("reject", "reject"),
  decision("revoke", "revoke"),
  decision("block", "block")
).middleware(RequestErrors).annotateEndpoints(ShortRequests, true) {}
