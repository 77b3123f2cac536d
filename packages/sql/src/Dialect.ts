/**
 * What differs between SQLite and PostgreSQL, for repositories in other packages that keep their tables beside ours.
 */
export { bigint, clustered, toNatural, toNaturalOrNull } from "./internal/dialect.ts"
