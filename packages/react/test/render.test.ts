import { assert, it } from "@effect/vitest"
import * as Credentials from "@sallyport/client/Credentials"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as Components from "@sallyport/react/Components"
import * as Hooks from "@sallyport/react/Hooks"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import { createElement, type ReactElement } from "react"
import { renderToString } from "react-dom/server"
import { pretend } from "../../client/test/support.ts"

it.live("a server renders every component, of what is not known yet, without a request and without a script or style", () =>
  Effect.gen(function*() {
    const server = yield* pretend(() => {})
    const runtime = ManagedRuntime.make(
      SallyportClient.layer({ baseUrl: server.url, credentials: Credentials.layerCookieJar }).pipe(
        Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
      )
    )
    const { RunView, SignedIn, ...others } = Components
    const elements: ReadonlyArray<readonly [name: string, element: ReactElement]> = [
      ["RunView", createElement(RunView, { runId: Option.some("a run") })],
      ["SignedIn", createElement(SignedIn, { title: "Runs", children: () => "seen by who is signed in" })],
      ...Object.entries(others).map(([name, component]) => [name, createElement(() => component({}))] as const)
    ]
    for (const [name, element] of elements) {
      const html = renderToString(createElement(Hooks.SallyportProvider, { client: runtime }, element))
      assert.notMatch(html, /<script|<style|style=|onclick/, name)
    }
    assert.include(
      renderToString(createElement(Hooks.SallyportProvider, { client: runtime }, createElement(others.PairDevice))),
      "Pairing code"
    )
    assert.deepStrictEqual(server.requests, [])
    yield* runtime.disposeEffect
  }))
