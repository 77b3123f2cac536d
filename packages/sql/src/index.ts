export * as Migrations from "./Migrations.ts"
export * as SqlAccessFeedRepository from "./SqlAccessFeedRepository.ts"
export * as SqlBootstrapCredentialRepository from "./SqlBootstrapCredentialRepository.ts"
export * as SqlSessionCredentialRepository from "./SqlSessionCredentialRepository.ts"
