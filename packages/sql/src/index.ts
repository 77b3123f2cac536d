export * as Migrations from "./Migrations.ts"
