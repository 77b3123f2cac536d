export * as ConnectClientStore from "./ConnectClientStore.ts"
export * as DeviceAuthorization from "./DeviceAuthorization.ts"
