import * as RelayEnvironmentRepository from "@sallyport/core/RelayEnvironmentRepository"
import * as RelayEnvironmentRepositorySuite from "@sallyport/testing/RelayEnvironmentRepositorySuite"

RelayEnvironmentRepositorySuite.suite("memory", RelayEnvironmentRepository.layerMemory)
