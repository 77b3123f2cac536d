import * as AccessFeedRepository from "@sallyport/core/AccessFeedRepository"
import * as SessionCredentialRepository from "@sallyport/core/SessionCredentialRepository"
import * as SessionCredentialRepositorySuite from "@sallyport/testing/SessionCredentialRepositorySuite"
import * as Layer from "effect/Layer"

SessionCredentialRepositorySuite.suite(
  "memory",
  Layer.mergeAll(SessionCredentialRepository.layerMemory, AccessFeedRepository.layerMemory)
)
