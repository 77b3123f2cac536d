import * as StreamSubscriptionRepositorySuite from "@sallyport/testing/StreamSubscriptionRepositorySuite"
import { persistences } from "./support.ts"

for (const { layer, name } of persistences) StreamSubscriptionRepositorySuite.suite(name, layer)
