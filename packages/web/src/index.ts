export * as WebPages from "./WebPages.ts"
