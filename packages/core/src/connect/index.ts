export * as ConnectClientStore from "./ConnectClientStore.ts"
