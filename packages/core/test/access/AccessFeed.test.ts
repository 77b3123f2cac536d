import * as Repositories from "@sallyport/core/Repositories"
import * as AccessFeedSuite from "@sallyport/testing/AccessFeedSuite"
import * as Layer from "effect/Layer"

AccessFeedSuite.suite("memory", Layer.fresh(Repositories.layerMemory))
