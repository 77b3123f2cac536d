/**
 * The parts of an owner's page, and the page that pairs a browser. They need a `SallyportProvider` above them, and the
 * stylesheet `@sallyport/react/sallyport.css`, whose custom properties a host sets to its own colours.
 */
export { AuditTrail, ConnectClients, Connections, Devices, LetIn, PairingLinks } from "./internal/Connections.tsx"
export { PairDevice } from "./internal/PairDevice.tsx"
