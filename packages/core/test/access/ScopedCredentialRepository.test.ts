import * as AccessFeedRepository from "@sallyport/core/access/AccessFeedRepository"
import * as ScopedCredentialRepository from "@sallyport/core/access/ScopedCredentialRepository"
import * as ScopedCredentialRepositorySuite from "@sallyport/testing/ScopedCredentialRepositorySuite"
import * as Layer from "effect/Layer"

ScopedCredentialRepositorySuite.suite(
  "memory",
  Layer.mergeAll(ScopedCredentialRepository.layerMemory, AccessFeedRepository.layerMemory)
)
