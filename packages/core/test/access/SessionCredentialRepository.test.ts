import * as AccessFeedRepository from "@sallyport/core/access/AccessFeedRepository"
import * as SessionCredentialRepository from "@sallyport/core/access/SessionCredentialRepository"
import * as SessionCredentialRepositorySuite from "@sallyport/testing/SessionCredentialRepositorySuite"
import * as Layer from "effect/Layer"

SessionCredentialRepositorySuite.suite(
  "memory",
  Layer.mergeAll(SessionCredentialRepository.layerMemory, AccessFeedRepository.layerMemory)
)
