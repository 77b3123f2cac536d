/**
 * The parts of an owner's page, and the pages that pair a browser and let a device in. They need a `SallyportProvider`
 * above them, and the stylesheet `@sallyport/react/sallyport.css`, whose custom properties a host sets to its own colours.
 */
export { AuditTrail } from "./internal/AuditTrail.tsx"
export { ConnectClients } from "./internal/ConnectClients.tsx"
export { Connections } from "./internal/Connections.tsx"
export { CredentialList } from "./internal/CredentialList.tsx"
export { DeviceRequest } from "./internal/DeviceRequest.tsx"
export { Devices } from "./internal/Devices.tsx"
export { LetIn } from "./internal/LetIn.tsx"
export { PairDevice } from "./internal/PairDevice.tsx"
export { PairingLinks } from "./internal/PairingLinks.tsx"
export { Runs } from "./internal/Runs.tsx"
export { RunView } from "./internal/RunView.tsx"
export { ScopeRequests } from "./internal/ScopeRequests.tsx"
export { SignedIn, type SignedInState } from "./internal/SignedIn.tsx"
