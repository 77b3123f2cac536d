/**
 * A real Chromium, from the package that ships one, and a network between it and the server that a test can cut.
 */
import Chromium, { inflate } from "@sparticuz/chromium"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as NFS from "node:fs"
import { connect, createServer, type Socket } from "node:net"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import * as Playwright from "playwright-core"
import { temporaryDirectory } from "./support.ts"

/** Awaits a step of the browser; what it fails with fails the test. */
export const step = <A>(run: () => Promise<A>): Effect.Effect<A> => Effect.promise(run)

/**
 * Unpacks the browser into a directory of this scope: the package itself takes whatever it finds in the shared temporary
 * directory, even a file that another process is still writing.
 */
const unpack = Effect.fnUntraced(function*(directory: string) {
  const inherited = process.env.TMPDIR
  process.env.TMPDIR = directory
  const executablePath = yield* Effect.ensuring(
    step(async () => {
      await inflate(fileURLToPath(new URL("../bin/al2023.tar.br", import.meta.resolve("@sparticuz/chromium"))))
      return Chromium.executablePath()
    }),
    Effect.sync(() => {
      if (inherited === undefined) delete process.env.TMPDIR
      else process.env.TMPDIR = inherited
    })
  )
  // The package's own configuration names directories that exist on its usual platform only.
  const fonts = NPath.join(directory, "fontconfig")
  NFS.mkdirSync(fonts)
  NFS.writeFileSync(
    NPath.join(fonts, "fonts.conf"),
    `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>${directory}/fonts</dir>` +
      `<cachedir>${fonts}/cache</cachedir></fontconfig>`
  )
  return { executablePath, fonts, libraries: NPath.join(directory, "al2023", "lib") }
})

const variables = (more: Record<string, string>): Record<string, string> => {
  const all: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) if (value !== undefined) all[name] = value
  return { ...all, ...more }
}

/** Starts the browser. Where the system lacks one of its libraries, those that the package ships take their place. */
export const browser: Effect.Effect<Playwright.Browser, never, Scope.Scope> = Effect.gen(function*() {
  const { executablePath, fonts, libraries } = yield* Effect.flatMap(temporaryDirectory, unpack)
  const launch = (env: Record<string, string>) =>
    Effect.tryPromise(() =>
      Playwright.chromium.launch({ executablePath, env: variables({ FONTCONFIG_PATH: fonts, ...env }) })
    )
  return yield* Effect.acquireRelease(
    launch({}).pipe(Effect.catch(() => launch({ LD_LIBRARY_PATH: libraries })), Effect.orDie),
    (browser) => step(() => browser.close())
  )
})

/** Opens a profile of its own: cookies that no other one sees. */
export const profile = (browser: Playwright.Browser, options?: Playwright.BrowserContextOptions) =>
  Effect.acquireRelease(
    step(async () => {
      const context = await browser.newContext({ viewport: { width: 420, height: 640 }, ...options })
      context.setDefaultTimeout(120_000)
      return context
    }),
    (context) => step(() => context.close())
  )

export interface Network {
  readonly url: string
  /** Cuts every connection, and refuses new ones. */
  readonly cut: () => void
  /** Lets connections through again, to a server that may be another one than before. */
  readonly join: (server: { readonly url: string }) => void
}

/** Forwards connections to a server, under an address that outlives it. */
export const network = (server: { readonly url: string }): Effect.Effect<Network, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Network & { readonly close: () => void }>((resume) => {
        const sockets = new Set<Socket>()
        let port: number | undefined = Number(new URL(server.url).port)
        const hold = (socket: Socket) => {
          sockets.add(socket)
          socket.on("error", () => socket.destroy())
          socket.on("close", () => sockets.delete(socket))
          return socket
        }
        const cut = () => {
          port = undefined
          for (const socket of sockets) socket.resetAndDestroy()
        }
        const listener = createServer((incoming) => {
          hold(incoming)
          if (port === undefined) return incoming.resetAndDestroy()
          const outgoing = hold(connect(port, "127.0.0.1"))
          incoming.pipe(outgoing)
          outgoing.pipe(incoming)
          incoming.on("close", () => outgoing.destroy())
          outgoing.on("close", () => incoming.destroy())
        })
        listener.listen(0, "127.0.0.1", () => {
          const address = listener.address()
          const own = typeof address === "object" && address !== null ? address.port : 0
          resume(Effect.succeed({
            url: `http://127.0.0.1:${own}`,
            cut,
            join: (next) => {
              port = Number(new URL(next.url).port)
            },
            close: () => {
              cut()
              listener.close()
            }
          }))
        })
      }),
      ({ close }) => Effect.sync(close)
    ),
    (network): Network => network
  )
