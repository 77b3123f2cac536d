/**
 * A network that breaks when a test says so: in front of `fetch`, or between sockets.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { connect, createServer, type Socket } from "node:net"

/**
 * Breaks a network, in one way at a time.
 *
 * @category models
 * @since 0.1.0
 */
export interface Faults {
  /** Cuts every request and connection that is open. New ones get through. */
  readonly cut: Effect.Effect<void>
  /** Cuts every request and connection that is open, and refuses new ones, as if the server were gone. */
  readonly refuse: Effect.Effect<void>
  /** Lets nothing more through, and closes nothing. What is sent meanwhile arrives when the network is restored. */
  readonly hang: Effect.Effect<void>
  /** Holds each request, and each part of an answer, back for a time. */
  readonly slow: (delay: Duration.Input) => Effect.Effect<void>
  /** Lets everything through again. */
  readonly restore: Effect.Effect<void>
}

/** Keeps the state of a network, and what is open in it. */
const make = Effect.gen(function*() {
  const run = Effect.runPromiseWith(yield* Effect.context<never>())
  const open = new Set<() => void>()
  const gate = Latch.makeUnsafe(true)
  let delay: Duration.Input = 0
  let isRefusing = false
  const cut = Effect.sync(() => {
    for (const close of open) close()
    open.clear()
  })
  const become = (isHanging: boolean, next: { readonly delay?: Duration.Input; readonly isRefusing?: boolean }) =>
    Effect.suspend(() => {
      delay = next.delay ?? 0
      isRefusing = next.isRefusing ?? false
      return isHanging ? gate.close : gate.open
    })
  const faults: Faults = {
    cut: Effect.andThen(cut, become(false, {})),
    refuse: Effect.andThen(become(false, { isRefusing: true }), cut),
    hang: Effect.asVoid(become(true, {})),
    slow: (delay) => Effect.asVoid(become(false, { delay })),
    restore: Effect.asVoid(become(false, {}))
  }
  const pass = Effect.andThen(gate.await, Effect.suspend(() => Effect.sleep(delay)))
  return {
    faults,
    open,
    isRefusing: () => isRefusing,
    /** Waits until something may pass. */
    pass: (signal?: AbortSignal) => run(pass, { signal })
  }
})

// -----------------------------------------------------------------------------
// fetch
// -----------------------------------------------------------------------------

/**
 * Provides a network in front of `fetch`.
 *
 * @category services
 * @since 0.1.0
 */
export class TestNetwork extends Context.Service<
  TestNetwork,
  Faults & {
    /** Does what the `fetch` does that the layer was built with, through this network. For programs that are not in Effect. */
    readonly fetch: typeof globalThis.fetch
  }
>()("@sallyport/testing/host/TestNetwork") {}

const withoutBody = new Set([101, 204, 205, 304])

/**
 * Provides the network, and an `HttpClient` whose requests go through it.
 *
 * **Details**
 *
 * It breaks the `fetch` that it is built with: the global one, or what is provided as `FetchHttpClient.Fetch`, such as a
 * web-standard handler. Clients of other kinds, and WebSockets, go through {@link between}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<TestNetwork | HttpClient.HttpClient> = Layer.effectContext(Effect.gen(function*() {
  const inner = yield* FetchHttpClient.Fetch
  const { faults, isRefusing, open, pass } = yield* make
  const fetch: typeof globalThis.fetch = async (input, init) => {
    if (isRefusing()) throw new TypeError("fetch failed: the test's network refuses connections")
    const request = new Request(input, init)
    const aborted = new AbortController()
    const signal = AbortSignal.any([request.signal, aborted.signal])
    let answer: TransformStreamDefaultController<Uint8Array> | undefined
    const close = () => {
      const error = new TypeError("fetch failed: the test's network was cut")
      aborted.abort(error)
      answer?.error(error)
    }
    open.add(close)
    const whileOpen = async <A>(step: Promise<A>): Promise<A> => {
      try {
        return await step
      } catch (error) {
        open.delete(close)
        throw signal.aborted ? signal.reason : error
      }
    }
    await whileOpen(pass(signal))
    const response = await whileOpen(inner(request, { signal }))
    if (response.body === null || withoutBody.has(response.status)) {
      open.delete(close)
      return response
    }
    const body = response.body.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        start: (controller) => {
          answer = controller
        },
        transform: async (part, controller) => {
          await whileOpen(pass(signal))
          controller.enqueue(part)
        },
        flush: () => void open.delete(close)
      })
    )
    return new Response(body, response)
  }
  const client = HttpClient.transformResponse(
    yield* HttpClient.HttpClient,
    Effect.provideService(FetchHttpClient.Fetch, fetch)
  )
  return Context.make(TestNetwork, { ...faults, fetch }).pipe(Context.add(HttpClient.HttpClient, client))
})).pipe(Layer.provide(FetchHttpClient.layer))

// -----------------------------------------------------------------------------
// Sockets
// -----------------------------------------------------------------------------

/**
 * Holds a network between sockets.
 *
 * @category models
 * @since 0.1.0
 */
export interface Wire extends Faults {
  /** The address that clients use in place of the server's. */
  readonly url: string
  /** Lets everything through again, new connections to another server from now on. */
  readonly lead: (url: string) => Effect.Effect<void>
}

/**
 * Opens a port on this machine whose connections lead to the server at an `http` address, with its host name and port. It is
 * closed with the scope. It passes bytes on, so that browsers, processes and WebSockets can use it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const between = Effect.fnUntraced(function*(url: string): Effect.fn.Return<Wire, never, Scope.Scope> {
  const { faults, isRefusing, open, pass } = yield* make
  let target = new URL(url)
  const forward = async (from: Socket, to: Socket) => {
    try {
      for await (const part of from) {
        await pass()
        if (!to.write(part)) await new Promise((resolve) => to.once("drain", resolve).once("close", resolve))
      }
      to.end()
    } catch {
      // One of the two was cut; the other ends with it.
      to.destroy()
    }
  }
  const accept = (incoming: Socket) => {
    incoming.on("error", () => incoming.destroy())
    if (isRefusing()) return incoming.resetAndDestroy()
    const outgoing = connect({ host: target.hostname, port: Number(target.port || 80), noDelay: true })
    outgoing.on("error", () => incoming.resetAndDestroy())
    const close = () => {
      outgoing.destroy()
      incoming.resetAndDestroy()
    }
    open.add(close)
    incoming.on("close", () => {
      open.delete(close)
      outgoing.destroy()
    })
    void forward(incoming, outgoing)
    void forward(outgoing, incoming)
  }
  const port = yield* Effect.acquireRelease(
    Effect.callback<{ readonly number: number; readonly close: () => void }>((resume) => {
      const server = createServer({ noDelay: true }, accept)
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed({
          number: typeof address === "object" && address !== null ? address.port : 0,
          close: () => server.close()
        }))
      })
    }),
    ({ close }) => Effect.andThen(faults.refuse, Effect.sync(close))
  )
  return {
    ...faults,
    url: `http://127.0.0.1:${port.number}`,
    lead: (url) =>
      Effect.andThen(
        Effect.sync(() => {
          target = new URL(url)
        }),
        faults.restore
      )
  }
})
