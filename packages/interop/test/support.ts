/**
 * Runs the host program as a separate process, and sends the tests' requests to it.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import { program, temporaryDirectory } from "../../../test-support/programs.ts"

const script = fileURLToPath(new URL("./programs/host.ts", import.meta.url))

/** Numbers as text, in the order in which the host counts. */
export const counted = (n: number): string => Array.from({ length: n }, (_, index) => `${index + 1} `).join("")

/** A database file that goes away with the scope. */
export const database = Effect.map(temporaryDirectory, (directory) => NPath.join(directory, "runs.db"))

/** Starts a host on a database file, on a port that the system chooses. */
export const host = Effect.fnUntraced(function*(filename: string) {
  const running = yield* program(script, [filename])
  const { url }: { readonly url: string } = JSON.parse(yield* Effect.orDie(running.printed(/^.*\n/)))
  const executions: Effect.Effect<{ readonly begun: number; readonly done: number }> = Effect.promise(() =>
    fetch(`${url}/executions`).then((response) => response.json())
  )
  return { ...running, url, executions }
})

/** Collects the items of an iterable, and passes each to a listener. */
export const collect = <A>(iterable: AsyncIterable<A>, listen: (items: ReadonlyArray<A>) => void = () => {}) =>
  Effect.promise(async () => {
    const items: Array<A> = []
    for await (const item of iterable) {
      items.push(item)
      listen(items)
    }
    return items
  })

/** Provides the run log on a store that answers late, as one behind a network does. */
export const slowly = (delayMillis: number): Layer.Layer<RunEventLog.RunEventLog> =>
  RunEventLog.layer.pipe(
    Layer.provide(Layer.effect(
      RunEventRepository.RunEventRepository,
      Effect.map(RunEventRepository.RunEventRepository, (repository) => ({
        ...repository,
        append: (options: Parameters<typeof repository.append>[0]) =>
          Effect.delay(repository.append(options), delayMillis),
        read: (options: Parameters<typeof repository.read>[0]) => Effect.delay(repository.read(options), delayMillis)
      }))
    )),
    Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer])
  )

/** Cuts the bodies of answers off, each after the next of some numbers of bytes; after the last none is cut. */
export const cutting = (fetch: typeof globalThis.fetch, cuts: ReadonlyArray<number>): typeof globalThis.fetch => {
  const left = [...cuts]
  return async (input, init) => {
    const response = await fetch(input, init)
    const { body } = response
    if (body === null) return response
    let bytes = left.shift() ?? Infinity
    const reader = body.getReader()
    const cut = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const { done, value } = await reader.read()
        if (done) return controller.close()
        controller.enqueue(value.subarray(0, bytes))
        bytes -= value.length
        if (bytes > 0) return
        await reader.cancel()
        controller.error(new TypeError("network error"))
      },
      cancel: () => reader.cancel()
    })
    return new Response(cut, response)
  }
}

/** Provides the run log of one of the nodes that share a database file. */
export const node = (filename: string) =>
  Layer.fresh(
    RunEventLog.layerWith({ heartbeatInterval: "100 millis", lease: "5 seconds", pollInterval: "100 millis" }).pipe(
      Layer.provide(SqlRunEventRepository.layer),
      Layer.provide([SqliteClient.layer({ filename }), NodeCrypto.layer])
    )
  )
