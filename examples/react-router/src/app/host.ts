/** What the server gives the routes with each request. */
import type { Session } from "@sallyport/core"
import { createContext } from "react-router"

export interface Host {
  /** Answers a request as Sallyport does. */
  readonly handle: (request: Request) => Promise<Response>
  /** Returns the session that a request is signed in with, and none if it is not or no longer. */
  readonly principal: (request: Request) => Promise<Session.Session | undefined>
}

export const host = createContext<Host>()
