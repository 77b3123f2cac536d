/** The application: a page of its own, with Sallyport's parts among what it shows. */
import { Credentials, SallyportClient } from "@sallyport/client"
import { Components, Hooks } from "@sallyport/react"
import { Layer, ManagedRuntime } from "effect"
import { SecureRandom } from "effect/crypto"
import { FetchHttpClient } from "effect/http"
import { StrictMode } from "react"
import { createRoot } from "react-dom/client"

const client = ManagedRuntime.make(
  SallyportClient.layer({ baseUrl: location.origin, credentials: Credentials.layerCookie }).pipe(
    Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
  )
)

const Greenhouse = () => (
  <Components.SignedIn title="Greenhouse" pair="/pair">
    {({ session }) => (
      <main className="greenhouse sallyport">
        <header>
          <h1>Greenhouse</h1>
          <p>Today {session.subject} waters the tomatoes.</p>
        </header>
        <Components.Devices />
        <Components.PairingLinks />
      </main>
    )}
  </Components.SignedIn>
)

const root = document.getElementById("root")
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <Hooks.SallyportProvider client={client}>
        <Greenhouse />
      </Hooks.SallyportProvider>
    </StrictMode>
  )
}
