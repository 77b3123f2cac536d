import * as RelayEnvironmentRepository from "@sallyport/connect/RelayEnvironmentRepository"
import * as RelayEnvironmentRepositorySuite from "@sallyport/testing/RelayEnvironmentRepositorySuite"

RelayEnvironmentRepositorySuite.suite("memory", RelayEnvironmentRepository.layerMemory)
