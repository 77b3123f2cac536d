import * as Access from "@sallyport/core/access/AccessRepository"
import * as AccessFeedRepositorySuite from "@sallyport/testing/AccessFeedRepositorySuite"

AccessFeedRepositorySuite.suite(
  "memory",
  Access.layerMemory
)
