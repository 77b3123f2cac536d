import * as AccessFeedRepository from "@sallyport/core/access/AccessFeedRepository"
import * as BootstrapCredentialRepository from "@sallyport/core/access/BootstrapCredentialRepository"
import * as SessionCredentialRepository from "@sallyport/core/access/SessionCredentialRepository"
import * as AccessFeedRepositorySuite from "@sallyport/testing/AccessFeedRepositorySuite"
import * as Layer from "effect/Layer"

AccessFeedRepositorySuite.suite(
  "memory",
  Layer.mergeAll(
    AccessFeedRepository.layerMemory,
    BootstrapCredentialRepository.layerMemory,
    SessionCredentialRepository.layerMemory
  )
)
