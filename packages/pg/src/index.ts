export * as PgDatabase from "./PgDatabase.ts"
export * as PgRepositories from "./PgRepositories.ts"
export * as PgWakeUps from "./PgWakeUps.ts"
