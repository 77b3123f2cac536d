/** The page: a chat by the AI SDK's own hook, which knows nothing of Sallyport. */
import { useChat } from "@ai-sdk/react"
import { Credentials, SallyportClient } from "@sallyport/client"
import { Components, Hooks } from "@sallyport/react"
import type { UIMessage } from "ai"
import { Layer, ManagedRuntime } from "effect"
import { SecureRandom } from "effect/crypto"
import { FetchHttpClient } from "effect/http"
import { type FormEvent, StrictMode, useEffect, useState } from "react"
import { createRoot } from "react-dom/client"

const client = ManagedRuntime.make(
  SallyportClient.layer({ baseUrl: location.origin, credentials: Credentials.layerCookie }).pipe(
    Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
  )
)

// One chat for each browser. Its messages are kept here as far as they were seen; a run has the rest of the last one.
const id = localStorage.getItem("chat") ?? crypto.randomUUID()
localStorage.setItem("chat", id)
const stored: Array<UIMessage> = JSON.parse(localStorage.getItem("messages") ?? "[]")

const textOf = ({ parts }: UIMessage) => parts.map((part) => part.type === "text" ? part.text : "").join("")

const Chat = () => {
  const { error, messages, sendMessage, status } = useChat({ id, messages: stored, resume: true })
  const [text, setText] = useState("")
  const busy = status === "submitted" || status === "streaming"
  useEffect(() => localStorage.setItem("messages", JSON.stringify(messages)), [messages])
  const send = (event: FormEvent) => {
    event.preventDefault()
    void sendMessage({ text })
    setText("")
  }
  // The hook's own `stop` would only close the connection, and the answer would go on.
  const stop = () => void fetch(`/api/chat/${id}/stream`, { method: "DELETE" })
  return (
    <main className="chat sallyport">
      <h1>Ferry</h1>
      <ol aria-live="polite">
        {messages.map((message) => <li key={message.id} data-role={message.role}>{textOf(message)}</li>)}
      </ol>
      {error === undefined ? null : <p role="alert">{error.message}</p>}
      <form onSubmit={send}>
        <input aria-label="Message" value={text} onChange={({ target }) => setText(target.value)} />
        {busy ? <button type="button" onClick={stop}>Stop</button> : <button type="submit">Send</button>}
      </form>
    </main>
  )
}

const root = document.getElementById("root")
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <Hooks.SallyportProvider client={client}>
        <Components.SignedIn title="Ferry" pair="/pair">{() => <Chat />}</Components.SignedIn>
      </Hooks.SallyportProvider>
    </StrictMode>
  )
}
