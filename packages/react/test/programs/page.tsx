/** The page that the tests open: everything that the package renders, on the cookie of the browser. */
import * as Credentials from "@sallyport/client/Credentials"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import { Connections, PairDevice } from "@sallyport/react/Components"
import * as Hooks from "@sallyport/react/Hooks"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { StrictMode } from "react"
import { createRoot } from "react-dom/client"

const client = ManagedRuntime.make(
  SallyportClient.layer({ baseUrl: location.origin, credentials: Credentials.layerCookie }).pipe(
    Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
  )
)
const root = document.getElementById("root")
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <Hooks.SallyportProvider client={client}>
        {location.pathname === "/pairing" ? <PairDevice continueTo="/connections" /> : <Connections />}
      </Hooks.SallyportProvider>
    </StrictMode>
  )
}
