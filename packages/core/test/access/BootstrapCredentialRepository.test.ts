import * as AccessFeedRepository from "@sallyport/core/access/AccessFeedRepository"
import * as BootstrapCredentialRepository from "@sallyport/core/access/BootstrapCredentialRepository"
import * as BootstrapCredentialRepositorySuite from "@sallyport/testing/BootstrapCredentialRepositorySuite"
import * as Layer from "effect/Layer"

BootstrapCredentialRepositorySuite.suite(
  "memory",
  Layer.mergeAll(BootstrapCredentialRepository.layerMemory, AccessFeedRepository.layerMemory)
)
