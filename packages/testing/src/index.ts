export * as SecretStoreSuite from "./SecretStoreSuite.ts"
export * as RunEventRepositorySuite from "./RunEventRepositorySuite.ts"
