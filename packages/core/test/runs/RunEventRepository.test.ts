import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as RunEventRepositorySuite from "@sallyport/testing/RunEventRepositorySuite"

RunEventRepositorySuite.suite("memory", RunEventRepository.layerMemory)
