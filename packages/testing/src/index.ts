export * as SecretStoreSuite from "./SecretStoreSuite.ts"
