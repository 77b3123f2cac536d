export * as ResumableStream from "./ResumableStream.ts"
export * as TanstackAi from "./TanstackAi.ts"
