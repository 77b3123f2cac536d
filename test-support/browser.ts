/**
 * Provides each test file with one real Chromium, and checks how accessible its pages are. The browser ends with its file, so
 * that files which use it are named among those apart in `vitest.workspace.ts`.
 */
import type * as Axe from "axe-core"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as NFS from "node:fs"
import { fileURLToPath } from "node:url"
import type { Browser, Page } from "playwright-core"
import { afterAll } from "vitest"
import { browserWith, step } from "./chromium.ts"

export { browserWith, profile, step } from "./chromium.ts"

const ofFile = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(ofFile, Exit.void)))

/**
 * Returns the browser of this test file. It starts for the first test that needs one and ends after the last: a test that
 * must share nothing with others has a profile of its own.
 */
export const browser: Effect.Effect<Browser> = Effect.runSync(Effect.cached(Scope.provide(browserWith({}), ofFile)))

const script = NFS.readFileSync(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8")

/** What the script makes, in a page. */
declare const axe: typeof Axe

/** Lists what axe has to say against a page as it is now, or against what some of its rules see. The page has no frames. */
export const violations = (page: Page, rules?: ReadonlyArray<string>) =>
  step(async (): Promise<ReadonlyArray<string>> => {
    // To load it takes much longer than to run it, so that each document loads it once.
    if (!await page.evaluate(() => "axe" in window)) await page.evaluate(script)
    const options: Axe.RunOptions = rules === undefined ? {} : { runOnly: { type: "rule", values: Array.from(rules) } }
    return page.evaluate(async (options) => {
      const { violations } = await axe.run(document, options)
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join()}`)
    }, options)
  })
