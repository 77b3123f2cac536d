/**
 * Describes the endpoints with which a process manager or a load balancer asks whether a server lives, and whether it can
 * answer requests. They need no session, and tell nothing that is secret.
 */
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as Schema from "effect/Schema"
import { RequestErrors } from "./Authentication.ts"

/**
 * Tells how one part of a server is: `ok`; `degraded`, if it works more slowly and needs no other server; or `failed`.
 *
 * @category models
 * @since 0.1.0
 */
export const CheckStatus = Schema.Literals(["ok", "degraded", "failed"])
/**
 * @see {@link CheckStatus}
 *
 * @category models
 * @since 0.1.0
 */
export type CheckStatus = typeof CheckStatus.Type

const Checks = Schema.Record(Schema.String, Schema.Struct({ status: CheckStatus }))

/**
 * Tells that a server can answer requests, with each of its checks.
 *
 * @category models
 * @since 0.1.0
 */
export class HealthView extends Schema.Class<HealthView>("@sallyport/contract/HealthView")({
  status: Schema.Literals(["ok", "degraded"]),
  checks: Checks
}) {}

/**
 * Answers 503: the server cannot answer requests at the moment, because a check fails or because it stops.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotReady extends Schema.TaggedError<NotReady>()("NotReady", {
  code: Schema.Literals(["not_ready"]),
  message: Schema.String,
  retryable: Schema.Boolean,
  status: Schema.Literals(["failed", "stopping"]),
  checks: Checks
}, { httpApiStatus: 503 }) {}

/**
 * Groups the health endpoints.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class HealthGroup extends HttpApiGroup.make("health").add(
  HttpApiEndpoint.get("live", "/api/health/live", { success: HealthView }),
  HttpApiEndpoint.get("ready", "/api/health/ready", { success: HealthView, error: NotReady })
).middleware(RequestErrors) {}
