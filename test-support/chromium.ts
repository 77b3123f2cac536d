/**
 * Starts a real Chromium, from the package that ships one.
 */
import Chromium, { inflate } from "@sparticuz/chromium"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import * as Playwright from "playwright-core"
import { temporaryDirectory } from "./programs.ts"

/** Awaits a step of the browser. If the step fails, the test fails with its error. */
export const step = <A>(run: () => Promise<A>): Effect.Effect<A> => Effect.promise(run)

// The browser's package has one font, whose signs are not of one width.
const monospaced = [
  import.meta.resolve("@expo-google-fonts/jetbrains-mono/400Regular/JetBrainsMono_400Regular.ttf"),
  import.meta.resolve("@expo-google-fonts/jetbrains-mono/700Bold/JetBrainsMono_700Bold.ttf")
].map((address) => fileURLToPath(address))

const cache = fileURLToPath(new URL("../node_modules/.cache", import.meta.url))

/**
 * Unpacks the browser, unless an earlier test has: that takes longer than to start it. The package itself would use any file
 * that it finds in the shared temporary directory, even one that another process is still writing.
 */
const unpacked = step(async () => {
  const archive = fileURLToPath(new URL("../bin/al2023.tar.br", import.meta.resolve("@sparticuz/chromium")))
  const { version }: { readonly version: string } = JSON.parse(
    NFS.readFileSync(NPath.join(NPath.dirname(archive), "../package.json"), "utf8")
  )
  const directory = NPath.join(cache, `chromium-${version}`)
  if (NFS.existsSync(directory)) return directory
  NFS.mkdirSync(cache, { recursive: true })
  const own = NFS.mkdtempSync(`${directory}-`)
  const inherited = process.env.TMPDIR
  process.env.TMPDIR = own
  try {
    await inflate(archive)
    await Chromium.executablePath()
  } finally {
    if (inherited === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = inherited
  }
  for (const font of monospaced) NFS.copyFileSync(font, NPath.join(own, "fonts", NPath.basename(font)))
  try {
    NFS.renameSync(own, directory)
  } catch (error) {
    // Another process was faster.
    NFS.rmSync(own, { recursive: true, force: true })
    if (!NFS.existsSync(directory)) throw error
  }
  return directory
})

/** Writes which fonts there are: the package's own configuration names directories that only exist on its usual platform. */
const configureFonts = (directory: string, unpacked: string) => {
  const prefer = (family: string, font: string) =>
    `<alias binding="same"><family>${family}</family><prefer><family>${font}</family></prefer></alias>`
  NFS.writeFileSync(
    NPath.join(directory, "fonts.conf"),
    `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>${unpacked}/fonts</dir>` +
      ["sans-serif", "system-ui"].map((family) => prefer(family, "Open Sans")).join("") +
      prefer("monospace", "JetBrains Mono") + `<cachedir>${directory}/cache</cachedir></fontconfig>`
  )
}

const variables = (more: Record<string, string>): Record<string, string> => {
  const all: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) if (value !== undefined) all[name] = value
  return { ...all, ...more }
}

/** Starts the browser. If the system lacks one of its libraries, the package's own library takes its place. */
export const browserWith = Effect.fnUntraced(function*(
  options: Playwright.LaunchOptions
): Effect.fn.Return<Playwright.Browser, never, Scope.Scope> {
  const directory = yield* unpacked
  const fonts = yield* temporaryDirectory
  configureFonts(fonts, directory)
  const launch = (env: Record<string, string>) =>
    Effect.tryPromise(() =>
      Playwright.chromium.launch({
        ...options,
        executablePath: NPath.join(directory, "chromium"),
        env: variables({ FONTCONFIG_PATH: fonts, ...env }),
        timeout: 120_000
      })
    )
  return yield* Effect.acquireRelease(
    launch({}).pipe(
      Effect.catch(() => launch({ LD_LIBRARY_PATH: NPath.join(directory, "al2023", "lib") })),
      Effect.orDie
    ),
    (browser) => step(() => browser.close())
  )
})

/** Opens a separate profile, whose cookies no other profile sees. */
export const profile = (browser: Playwright.Browser, options?: Playwright.BrowserContextOptions) =>
  Effect.acquireRelease(
    step(async () => {
      const context = await browser.newContext({ viewport: { width: 420, height: 640 }, ...options })
      context.setDefaultTimeout(120_000)
      return context
    }),
    (context) => step(() => context.close())
  )
