/**
 * The endpoints with which people connect providers, for themselves or for their organisation.
 *
 * They are an API of their own, because a host without organisations or providers has nothing to answer them with. It has
 * the name of the whole one, so that a host can also add the group to an API of that name: the handlers fit both.
 */
import { Verdict } from "@sallyport/core/credentials/CredentialRequirements"
import { CredentialStatus } from "@sallyport/core/credentials/CredentialStatus"
import { CredentialKey, CredentialScope } from "@sallyport/core/access/ScopedCredential"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { describeSecurity, RequestErrors, requires } from "./Authentication.ts"
import { version } from "./internal/version.ts"
import { Conflict, Forbidden, InvalidRequest, NotFound, TooLarge, Unavailable } from "./WireError.ts"

/**
 * Describes a stored credential, without its value.
 *
 * @category models
 * @since 0.1.0
 */
export class CredentialView extends Schema.Class<CredentialView>("@sallyport/contract/CredentialView")({
  scope: CredentialScope,
  owner: Schema.NonEmptyString,
  key: CredentialKey,
  createdAt: Schema.DateTimeUtcFromString,
  updatedAt: Schema.DateTimeUtcFromString,
  updatedBy: Schema.NonEmptyString,
  /** Until when it counts as rejected by its provider, or null. */
  rejectedUntil: Schema.NullOr(Schema.DateTimeUtcFromString)
}) {}

const params = { key: Schema.String.check(Schema.isMaxLength(128)) }
const scope = Schema.optionalKey(Schema.String.check(Schema.isMaxLength(32)))
const secret = Schema.RedactedFromValue(Schema.String)

/**
 * Groups the endpoints of credentials.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class CredentialGroup extends HttpApiGroup.make("credentials").add(
  HttpApiEndpoint.get("list", "/api/credentials", {
    success: Schema.Struct({ credentials: Schema.Array(CredentialView) }),
    error: Unavailable
  }).pipe(requires("credentials:read")),
  HttpApiEndpoint.get("status", "/api/credentials/status", {
    success: Schema.Struct({ credentials: Schema.Array(CredentialStatus) }),
    error: Unavailable
  }).pipe(requires("credentials:read")),
  HttpApiEndpoint.put("set", "/api/credentials/:key", {
    params,
    payload: Schema.Struct({
      /** The value of a credential that is one value. */
      value: Schema.optionalKey(secret),
      /** Every part of a bundle. */
      values: Schema.optionalKey(Schema.Record(Schema.String, secret)),
      /** Whose it becomes. Where absent: the organisation's for its owners and admins, and one's own for everybody else. */
      scope
    }),
    success: Schema.Struct({
      credential: CredentialView,
      /** A scope that has one too and is read first, or null. */
      shadowedBy: Schema.NullOr(CredentialScope)
    }),
    error: [InvalidRequest, Forbidden, NotFound, Conflict, TooLarge, Unavailable]
  }).pipe(requires("credentials:write")),
  HttpApiEndpoint.delete("remove", "/api/credentials/:key", {
    params,
    query: {
      /** Whose it is. Where absent: the one that the caller uses. */
      scope
    },
    success: HttpApiSchema.NoContent,
    error: [InvalidRequest, Forbidden, NotFound, Conflict, Unavailable]
  }).pipe(requires("credentials:write")),
  HttpApiEndpoint.post("test", "/api/credentials/:key/test", {
    params,
    success: Schema.Struct({ verdict: Verdict }),
    error: [NotFound, Conflict, Unavailable]
  }).pipe(requires("credentials:write"))
).middleware(RequestErrors) {}

/**
 * Describes the endpoints of credentials as an API.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class CredentialApi extends HttpApi.make("sallyport")
  .add(CredentialGroup)
  .annotate(OpenApi.Title, "Sallyport credentials")
  .annotate(OpenApi.Version, version)
  .annotate(OpenApi.Description, "Providers' credentials of users, organisations and workspaces")
  .annotate(OpenApi.Transform, describeSecurity)
{}
