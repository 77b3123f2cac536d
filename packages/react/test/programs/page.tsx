/** The page that the tests open: everything that the package renders, on the cookie of the browser. */
import * as Credentials from "@sallyport/client/Credentials"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import { Connections, Devices, PairDevice, RunView } from "@sallyport/react/Components"
import * as Hooks from "@sallyport/react/Hooks"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import { StrictMode } from "react"
import { createRoot } from "react-dom/client"

const client = ManagedRuntime.make(
  SallyportClient.layer({ baseUrl: location.origin, credentials: Credentials.layerCookie }).pipe(
    Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
  )
)
const Shown = () => {
  switch (location.pathname) {
    case "/pairing":
      return location.search === "?stay"
        ? <PairDevice continueTo="/connections" onPaired={() => {}} />
        : <PairDevice continueTo="/connections" />
    case "/running":
      return (
        <main className="sallyport">
          <h1>Start</h1>
          <RunView runId={Option.fromNullOr(new URLSearchParams(location.search).get("run"))} title="A run to try" />
        </main>
      )
    case "/many":
      return (
        <main className="sallyport">
          <h1>Runs</h1>
          {new URLSearchParams(location.search).getAll("run").map((runId) => (
            <RunView key={runId} runId={Option.some(runId)} title={`Run ${runId}`} />
          ))}
          <Devices />
        </main>
      )
    default:
      return <Connections pair="pairing" />
  }
}
const root = document.getElementById("root")
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <Hooks.SallyportProvider client={client}>
        <Shown />
      </Hooks.SallyportProvider>
    </StrictMode>
  )
}
