/**
 * Starts the browser of the window: a Chromium from npm. It has no display; in Electron, a `BrowserWindow` takes its
 * place.
 */
import Chromium, { inflate } from "@sparticuz/chromium"
import { Effect, FileSystem, Path } from "effect"
import * as Playwright from "playwright-core"

/** Describes an unpacked browser. */
export interface Unpacked {
  readonly executablePath: string
  /** The variables that it needs if the system lacks some of its libraries. */
  readonly env: Record<string, string>
}

/**
 * Unpacks the browser into a directory, which must exist. The package itself takes any file that it finds in the shared
 * temporary directory, even one that another process is still writing.
 */
export const unpack = Effect.fn("Chromium.unpack")(function*(directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const archive = yield* path.fromFileUrl(new URL("../bin/al2023.tar.br", import.meta.resolve("@sparticuz/chromium")))
  const inherited = process.env.TMPDIR
  process.env.TMPDIR = directory
  const executablePath = yield* Effect.promise(async () => {
    await inflate(archive)
    return Chromium.executablePath()
  }).pipe(Effect.ensuring(Effect.sync(() => {
    if (inherited === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = inherited
  })))
  // The package's own configuration names directories that only exist on its usual platform.
  const fonts = path.join(directory, "fontconfig")
  yield* fs.makeDirectory(fonts)
  yield* fs.writeFileString(
    path.join(fonts, "fonts.conf"),
    `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>${directory}/fonts</dir>` +
      `<cachedir>${fonts}/cache</cachedir></fontconfig>`
  )
  const unpacked: Unpacked = {
    executablePath,
    env: { FONTCONFIG_PATH: fonts, LD_LIBRARY_PATH: path.join(directory, "al2023", "lib") }
  }
  return unpacked
})

/** Starts the browser. It ends with the scope, and with this process, even if that is killed: it lives on a pipe. */
export const launch = ({ env, executablePath }: Unpacked) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      Playwright.chromium.launch({
        executablePath,
        env: { ...process.env, ...env },
        // This process handles signals, and then closes the scope.
        handleSIGHUP: false,
        handleSIGINT: false,
        handleSIGTERM: false
      })
    ),
    (browser) => Effect.promise(() => browser.close())
  )
