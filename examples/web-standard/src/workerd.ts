/** Serves it with workerd, as a Durable Object: the one place that all requests share. It keeps its state in memory. */
import * as Server from "./Server.ts"

interface Environment {
  /** The address that clients see; without one, only clients of this machine are let in. */
  readonly PUBLIC_URL: string | null
  readonly SERVER: { readonly getByName: (name: string) => { readonly fetch: (request: Request) => Promise<Response> } }
}

export class ServerObject {
  readonly #started: ReturnType<typeof Server.start>

  constructor(_state: unknown, { PUBLIC_URL: publicUrl }: Environment) {
    this.#started = Server.start({
      state: Server.inMemory,
      publicUrl: publicUrl === null ? undefined : new URL(publicUrl)
    })
  }

  async fetch(request: Request): Promise<Response> {
    const { fetch } = await this.#started
    return fetch(request)
  }
}

export default {
  fetch: (request: Request, { SERVER }: Environment): Promise<Response> => SERVER.getByName("server").fetch(request)
}
