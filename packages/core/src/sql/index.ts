export * as Dialect from "./Dialect.ts"
export * as Migrations from "./Migrations.ts"
export * as SqlWakeUps from "./SqlWakeUps.ts"
export * as Statements from "./Statements.ts"
