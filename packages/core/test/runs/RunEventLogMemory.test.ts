import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as RunEventLogSuite from "@sallyport/testing/RunEventLogSuite"

RunEventLogSuite.suite("memory", RunEventRepository.layerMemory)
