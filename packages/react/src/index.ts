export * as Hooks from "./Hooks.ts"
export * as Store from "./Store.ts"
