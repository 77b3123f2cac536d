/**
 * The parts of an owner's page. They need a `SallyportProvider` above them, and the stylesheet
 * `@sallyport/react/sallyport.css`, whose custom properties a host sets to its own colours.
 */
export { AuditTrail, ConnectClients, Connections, Devices, LetIn, PairingLinks } from "./internal/Connections.tsx"
