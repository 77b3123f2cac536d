/** Renders a page: its head, and below it what the page is for, on the client of this browser. */
import * as Credentials from "@sallyport/client/Credentials"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import { SallyportProvider } from "@sallyport/react/Hooks"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { type ReactNode, StrictMode } from "react"
import { createRoot } from "react-dom/client"

/** Lists what the server says of itself and of where it has mounted the pages. */
export interface Place {
  /** What people call the server. */
  readonly name: string
  /** Returns the address of a page. */
  readonly page: (name: string) => string
}

const Head = ({ current, place }: { readonly current: string; readonly place: Place }) => (
  <header className="sw-top">
    <a className="sw-brand" href={place.page("connections")}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d="M3.5 21V11a8.5 8.5 0 0 1 17 0v10z" />
        <path d="M9 21v-9.5a3 3 0 0 1 6 0V21" fill="currentColor" />
      </svg>
      <span>{place.name}</span>
    </a>
    <nav aria-label="Pages">
      <a href={place.page("connections")} aria-current={current === "connections" ? "page" : undefined}>Connections</a>
    </nav>
  </header>
)

/** Shows a page in its document. */
export const show = (current: string, content: (place: Place) => ReactNode) => {
  const element = document.getElementById("root")
  if (element === null) return
  const { api = "", name = "", root = "./" } = element.dataset
  const pages = new URL(root, location.href)
  const place: Place = {
    name: name === "" ? location.host : name,
    page: (name) => new URL(name, pages).pathname
  }
  const client = ManagedRuntime.make(
    SallyportClient.layer({
      baseUrl: new URL(api === "" ? pages : api, location.origin).href,
      credentials: Credentials.layerCookie
    }).pipe(Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto]))
  )
  createRoot(element).render(
    <StrictMode>
      <SallyportProvider client={client}>
        <Head current={current} place={place} />
        {content(place)}
      </SallyportProvider>
    </StrictMode>
  )
}
