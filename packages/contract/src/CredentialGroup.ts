/**
 * Describes the endpoints with which people connect providers, for themselves or for their organisation.
 *
 * They form a separate API, because a host without organisations or providers cannot answer them. That API has the name
 * of the whole one, so a host can also add the group to an API of that name: the handlers fit both.
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
  /** Until when the credential counts as rejected by its provider, or null. */
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
      /** The value, for a credential with one value. */
      value: Schema.optionalKey(secret),
      /** Every part, for a bundle. */
      values: Schema.optionalKey(Schema.Record(Schema.String, secret)),
      /**
       * The scope to write to. By default the organisation for its owners and admins, and the user for everyone else.
       */
      scope
    }),
    success: Schema.Struct({
      credential: CredentialView,
      /** A scope that also has this credential and is read first, or null. */
      shadowedBy: Schema.NullOr(CredentialScope)
    }),
    error: [InvalidRequest, Forbidden, NotFound, Conflict, TooLarge, Unavailable]
  }).pipe(requires("credentials:write")),
  HttpApiEndpoint.delete("remove", "/api/credentials/:key", {
    params,
    query: {
      /** The scope of the credential. By default the one that the caller reads. */
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
