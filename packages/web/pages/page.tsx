/** Renders a page: its head, and below it what the page is for, on the client of this browser. */
import * as Credentials from "@sallyport/client/Credentials"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import { SallyportProvider } from "@sallyport/react/Hooks"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import { type ReactNode, StrictMode } from "react"
import { createRoot } from "react-dom/client"

/** Lists what the server says of itself, and where it has mounted the pages. */
export interface Place {
  /** What people call the server. */
  readonly name: string
  readonly connections: string
  readonly device: string
  readonly start: Option.Option<string>
  /** The address of the page that pairs this browser and comes back to this one. */
  readonly pair: string
  /** Where a browser goes once it is paired. */
  readonly next: string
}

const links = ({ connections, start }: Place): ReadonlyArray<readonly [title: string, address: string]> => [
  ...Option.toArray(start).map((address) => ["Start", address] as const),
  ["Connections", connections]
]

/** Names the server, and leads to the other pages; if there is one question, it tells the address instead. */
const Head = ({ place }: { readonly place: Place }) => {
  const isGate = [place.pair, place.device].some((gate) => location.pathname === new URL(gate, location.href).pathname)
  return (
    <header className="sw-top" data-page={isGate ? "gate" : "page"}>
      <a className="sw-brand" href={Option.getOrElse(place.start, () => place.connections)}>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M3.5 21V11a8.5 8.5 0 0 1 17 0v10z" />
          <path d="M9 21v-9.5a3 3 0 0 1 6 0V21" fill="currentColor" />
        </svg>
        <span>{place.name}</span>
      </a>
      {isGate
        ? place.name !== location.host && <span className="sw-host">{location.host}</span>
        : (
          <nav aria-label="Pages">
            {links(place).map(([title, address]) => (
              <a key={title} href={address} aria-current={address === location.pathname ? "page" : undefined}>
                {title}
              </a>
            ))}
          </nav>
        )}
    </header>
  )
}

/** Returns an address as a path of this server, if it is one. */
const ownPath = (address: string | null): Option.Option<string> => {
  const url = address === null ? null : URL.parse(address, location.origin)
  return url?.origin === location.origin ? Option.some(url.pathname + url.search + url.hash) : Option.none()
}

/** Shows a page in its document. */
export const show = (content: (place: Place) => ReactNode) => {
  const element = document.getElementById("root")
  if (element === null) return
  const { api = "", continueTo = "", name = "", root = "./", start = "" } = element.dataset
  const pages = new URL(root, location.href)
  const address = (path: string) => new URL(path, pages).pathname
  const begin = start === "" ? Option.none<string>() : Option.some(address(start))
  const place: Place = {
    name: name === "" ? location.host : name,
    connections: address("connections"),
    device: address("device"),
    start: begin,
    pair: `${address("pair")}?${new URLSearchParams({ continue: location.pathname + location.search })}`,
    next: Option.getOrElse(
      ownPath(new URLSearchParams(location.search).get("continue")),
      () => continueTo === "" ? Option.getOrElse(begin, () => "/") : continueTo
    )
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
        <Head place={place} />
        {content(place)}
      </SallyportProvider>
    </StrictMode>
  )
}
