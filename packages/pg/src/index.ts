export * as PgRepositories from "./PgRepositories.ts"
export * as PgWakeUps from "./PgWakeUps.ts"
