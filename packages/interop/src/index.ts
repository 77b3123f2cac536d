export * as TanstackAi from "./TanstackAi.ts"
