/**
 * Describes the whole HTTP surface. A host mounts it beside its own API, or builds a smaller API of the same name from
 * some of the groups: the handlers fit both.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as OpenApi from "effect/http-api/OpenApi"
import { AccessGroup } from "./AccessGroup.ts"
import { describeSecurity } from "./Authentication.ts"
import { ConnectGroup } from "./ConnectGroup.ts"
import { HealthGroup } from "./HealthGroup.ts"
import { version } from "./internal/version.ts"
import { PairingGroup } from "./PairingGroup.ts"
import { RunGroup } from "./RunGroup.ts"
import { SessionGroup } from "./SessionGroup.ts"

/**
 * Describes every endpoint of Sallyport.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class SallyportApi extends HttpApi.make("sallyport")
  .add(SessionGroup)
  .add(PairingGroup)
  .add(RunGroup)
  .add(AccessGroup)
  .add(ConnectGroup)
  .add(HealthGroup)
  .annotate(OpenApi.Title, "Sallyport")
  .annotate(OpenApi.Version, version)
  .annotate(OpenApi.Description, "Pairing, sessions and resumable runs")
  .annotate(OpenApi.Transform, describeSecurity)
{}
