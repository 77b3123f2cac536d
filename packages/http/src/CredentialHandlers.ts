/**
 * Answers the endpoints of credentials, and mounts them.
 */
import { CredentialApi, CredentialView } from "@sallyport/contract/CredentialGroup"
import { singlePart } from "@sallyport/core/credentials/CredentialRequirements"
import { type CredentialError, CredentialScopeResolver } from "@sallyport/core/credentials/CredentialScopeResolver"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as Input from "@sallyport/core/Input"
import type * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Layer from "effect/Layer"
import * as Authentication from "./Authentication.ts"
import { prefixed } from "./internal/prefixed.ts"
import * as Wire from "./internal/wire.ts"

const wrongRequest = (reason: { readonly message: string }) => Wire.invalidRequest(reason)

/** The reasons of the operations that write nothing of their own. */
const common = {
  OrgLookupFailed: Wire.unavailable,
  CredentialStoreUnavailable: Wire.unavailable
}

/** The reasons of a change: the key, the place and the right to it. */
const changing = {
  ...common,
  UnknownKey: Wire.credentialUnknown,
  NotSet: Wire.credentialNotSet,
  ScopeNotAllowed: wrongRequest,
  NoActiveOrg: Wire.noActiveOrg,
  NotPermitted: Wire.roleRequired
}

const unexpected = (reason: CredentialError["reason"]) => Effect.die(reason)

/**
 * Provides the handlers of the group `credentials`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  CredentialApi,
  "credentials",
  Effect.fn(function*(handlers) {
    const credentials = yield* CredentialScopeResolver
    return handlers.handleAll({
      list: Effect.fn(
        function*() {
          const found = yield* credentials.list(yield* CurrentSession)
          return { credentials: found.map((credential) => new CredentialView({ ...credential })) }
        },
        Effect.catchReasons("CredentialError", common, unexpected)
      ),
      status: Effect.fn(
        function*() {
          return { credentials: yield* credentials.status(yield* CurrentSession) }
        },
        Effect.catchReasons("CredentialError", common, unexpected)
      ),
      set: Effect.fn(
        function*({ params, payload }) {
          if ((payload.value === undefined) === (payload.values === undefined)) {
            return yield* Wire.invalidRequest({
              message: "Give `value`, or `values` with every part of a bundle, and not both"
            })
          }
          const { credential, shadowedBy } = yield* credentials.write(yield* CurrentSession, {
            key: params.key,
            values: payload.value === undefined
              ? new Map(Object.entries(payload.values ?? {}))
              : new Map([[singlePart, payload.value]]),
            scope: payload.scope
          })
          return { credential: new CredentialView({ ...credential }), shadowedBy }
        },
        Effect.catchReasons("CredentialError", {
          ...changing,
          WrongParts: wrongRequest,
          ValueTooLarge: Wire.limitExceeded
        }, unexpected)
      ),
      remove: Effect.fn(
        function*({ params, query }) {
          yield* credentials.remove(yield* CurrentSession, { key: params.key, scope: query.scope })
        },
        Effect.catchReasons("CredentialError", changing, unexpected)
      ),
      test: Effect.fn(
        function*({ params }) {
          return { verdict: yield* credentials.test(yield* CurrentSession, params.key) }
        },
        Effect.catchReasons("CredentialError", {
          ...common,
          UnknownKey: Wire.credentialUnknown,
          Undecryptable: Wire.undecryptable
        }, unexpected)
      )
    })
  })
)

/**
 * Lists the settings of {@link layerRoutes}.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The path below which the endpoints are mounted. Default none. */
  readonly prefix?: `/${string}` | undefined
  /** The largest body that a request may have. Default 256 KiB. */
  readonly maxBodySize?: ByteSize.ByteSize | undefined
  /** Where the OpenAPI document of these endpoints is served, below the prefix. Default `/api/credentials/openapi.json`. */
  readonly openapiPath?: `/${string}` | undefined
}

/**
 * Adds the endpoints of credentials to the router, beside those of `Sallyport.layer`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerRoutes = (options?: Options) => {
  Input.demand(
    "CredentialHandlers.layerRoutes",
    { prefix: Input.text, maxBodySize: Input.any, openapiPath: Input.text },
    options ?? {}
  )
  const prefix = options?.prefix
  const api = prefix === undefined ? CredentialApi : CredentialApi.annotate(OpenApi.Servers, [{ url: prefix }])
  return HttpApiBuilder.layer(api, { openapiPath: options?.openapiPath ?? "/api/credentials/openapi.json" }).pipe(
    Layer.provide(layer),
    Layer.provide([Authentication.layer, Authentication.layerRequestErrors({ maxBodySize: options?.maxBodySize })]),
    prefixed(prefix)
  )
}
