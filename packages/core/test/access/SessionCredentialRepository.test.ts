import * as Access from "@sallyport/core/access/AccessRepository"
import * as SessionCredentialRepositorySuite from "@sallyport/testing/SessionCredentialRepositorySuite"

SessionCredentialRepositorySuite.suite(
  "memory",
  Access.layerMemory
)
