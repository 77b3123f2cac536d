import * as Access from "@sallyport/core/access/AccessRepository"
import * as ScopedCredentialRepositorySuite from "@sallyport/testing/ScopedCredentialRepositorySuite"

ScopedCredentialRepositorySuite.suite(
  "memory",
  Access.layerMemory
)
