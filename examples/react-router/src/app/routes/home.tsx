import { type LoaderFunctionArgs, redirect, useLoaderData } from "react-router"
import { host } from "../host.ts"

/** Runs on the server: it knows who asks before there is a page. */
export const loader = async ({ context, request }: LoaderFunctionArgs) => {
  const session = await context.get(host).principal(request)
  if (session === undefined) throw redirect("/sallyport/pair")
  return { subject: session.subject, scopes: session.scopes }
}

export default () => {
  const { scopes, subject } = useLoaderData<typeof loader>()
  return (
    <main>
      <h1>Greenhouse of {subject}</h1>
      <p>This browser may {scopes.join(", ")}.</p>
      <a href="/sallyport/connections">Who is connected</a>
    </main>
  )
}
