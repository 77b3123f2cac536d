import * as Access from "@sallyport/core/access/AccessRepository"
import * as BootstrapCredentialRepositorySuite from "@sallyport/testing/BootstrapCredentialRepositorySuite"

BootstrapCredentialRepositorySuite.suite(
  "memory",
  Access.layerMemory
)
