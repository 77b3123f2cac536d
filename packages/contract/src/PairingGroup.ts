/**
 * Describes the endpoints with which a signed-in device lets another device in.
 */
import { AccessScope } from "@sallyport/core/access/AccessScope"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { Label, NextPage, PageCursor, PairingLinkView, SessionLifetimeSeconds } from "./AccessSchemas.ts"
import { RequestErrors, requires, ShortRequests } from "./Authentication.ts"
import { Conflict, Forbidden, InvalidRequest, NotFound, Unavailable } from "./WireError.ts"

/**
 * Groups the endpoints of pairing links. A session lists and revokes those for its own subject, or with the scope
 * `access:manage` everyone's.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class PairingGroup extends HttpApiGroup.make("pairing").add(
  HttpApiEndpoint.post("issue", "/api/auth/pairing-links", {
    payload: Schema.Struct({
      /** What the new device may do. By default all that the issuing session may do. */
      scopes: Schema.optionalKey(Schema.Array(AccessScope).check(Schema.isMaxLength(64))),
      label: Schema.optionalKey(Label),
      /** `machine` makes a longer code, which is pasted rather than typed. */
      kind: Schema.optionalKey(Schema.Literals(["device", "machine"])),
      /**
       * The JWK thumbprint (RFC 7638) of the only key that can redeem the code, with a DPoP proof. Without it, the code of a
       * session that is bound to a key is for any key that the new device proves.
       */
      proofKeyThumbprint: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{43}$/))),
      /** How long the code can be redeemed. By default the server's setting. */
      lifetimeSeconds: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
      /** How long the session goes on without being used: at most as long as the server's setting says, and the issuer's own. */
      sessionLifetimeSeconds: Schema.optionalKey(SessionLifetimeSeconds),
      /** How long after now the session ends, however it is used: at most when the issuer's own session has to end. */
      sessionAbsoluteLifetimeSeconds: Schema.optionalKey(SessionLifetimeSeconds)
    }),
    success: Schema.Struct({
      link: PairingLinkView,
      /** The pairing code, shown only here. */
      code: Schema.RedactedFromValue(Schema.String, { label: "pairing-code" })
    }).pipe(HttpApiSchema.status(201)),
    error: [InvalidRequest, Forbidden, Conflict, Unavailable]
  }).pipe(requires("access:write")),
  HttpApiEndpoint.get("list", "/api/auth/pairing-links", {
    query: { after: Schema.optionalKey(PageCursor) },
    success: Schema.Struct({ links: Schema.Array(PairingLinkView), next: NextPage }),
    error: [InvalidRequest, Unavailable]
  }).pipe(requires("access:read")),
  HttpApiEndpoint.post("revoke", "/api/auth/pairing-links/revoke", {
    payload: Schema.Struct({ id: Schema.NonEmptyString.check(Schema.isMaxLength(64)) }),
    success: HttpApiSchema.NoContent,
    error: [NotFound, Unavailable]
  }).pipe(requires("access:write"))
).middleware(RequestErrors).annotateEndpoints(ShortRequests, true) {}
