export * as Run from "./Run.ts"
export * as RunEventLog from "./RunEventLog.ts"
export * as RunEventRepository from "./RunEventRepository.ts"
export * as SqlRunEventRepository from "./SqlRunEventRepository.ts"
