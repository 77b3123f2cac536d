import * as RunEventRepository from "@sallyport/core/RunEventRepository"
import * as RunEventLogSuite from "@sallyport/testing/RunEventLogSuite"

RunEventLogSuite.suite("memory", RunEventRepository.layerMemory)
