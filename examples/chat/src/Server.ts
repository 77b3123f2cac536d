/**
 * Provides the server as one layer: Sallyport's routes, those of the chat, and the page that Vite has built. What it keeps is
 * in memory; `examples/swap-persistence` shows how it is kept in a database.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import {
  AuthPolicy,
  BootstrapCredentialService,
  CurrentSession,
  Repositories,
  RunEventLog,
  SecretStore,
  SessionCredentialService
} from "@sallyport/core"
import { Authentication, RunProgram, Sallyport, Shutdown } from "@sallyport/http"
import * as AiSdk from "@sallyport/interop/AiSdk"
import { convertToModelMessages, type LanguageModel, streamText } from "ai"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpStaticServer } from "effect/http"
import { createServer } from "node:http"

/** Answers a message by the AI SDK. The model's call ends with the run, not with the page. */
const answer = (model: LanguageModel): AiSdk.Program<AiSdk.AiSdkError, never> =>
  Effect.fnUntraced(function*(request, { emitAll }) {
    const messages = yield* Effect.promise(async () => await convertToModelMessages(request.messages))
    return yield* emitAll((abortSignal) => streamText({ model, messages, abortSignal }).toUIMessageStream())
  })

const owner = Effect.map(CurrentSession.CurrentSession, ({ subject }) => ({ subject }))

/** Adds the routes that `useChat` asks, and the one that stops an answer. */
const chat = (model: LanguageModel) =>
  Layer.mergeAll(
    HttpRouter.add("POST", "/api/chat", Effect.flatMap(owner, (owner) => AiSdk.handle(owner, answer(model)))),
    HttpRouter.add("GET", "/api/chat/:id/stream", Effect.flatMap(owner, AiSdk.handleResume)),
    HttpRouter.add("DELETE", "/api/chat/:id/stream", Effect.flatMap(owner, AiSdk.handleStop))
  ).pipe(Layer.provide(Authentication.guard("runs:operate").layer))

const services = Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer, RunEventLog.layer)

export const layer = ({ files, model, port }: {
  /** Where Vite has put what it built. */
  readonly files: string
  readonly model: LanguageModel
  readonly port: number
}) =>
  HttpRouter.serve(Layer.mergeAll(Sallyport.layer(), chat(model), HttpStaticServer.layer({ root: files }))).pipe(
    Shutdown.graceful,
    Layer.provide(RunProgram.layer(() => Effect.void)),
    Layer.provideMerge(services),
    Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
    Layer.provide(AuthPolicy.layer({ host: "127.0.0.1", name: "Ferry" })),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port })),
    Layer.provide(NodeCrypto.layer)
  )
