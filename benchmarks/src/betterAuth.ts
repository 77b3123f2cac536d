/**
 * Runs the peer for sessions: better-auth on `node:sqlite` in memory, with its defaults, which leave its cookie cache
 * off.
 */
import { betterAuth } from "better-auth"
import { getMigrations } from "better-auth/db/migration"
import { DatabaseSync } from "node:sqlite"

/** Signs a user up and returns a function that looks the session up once. */
export const makeGetSession = async (): Promise<() => Promise<void>> => {
  const options = {
    baseURL: "http://127.0.0.1:3000",
    secret: "a secret of at least thirty-two characters",
    database: new DatabaseSync(":memory:"),
    emailAndPassword: { enabled: true },
    telemetry: { enabled: false },
    rateLimit: { enabled: false }
  }
  const { runMigrations } = await getMigrations(options)
  await runMigrations()
  const auth = betterAuth(options)
  const response = await auth.api.signUpEmail({
    body: { email: "ada@example.com", password: "correct horse battery", name: "Ada" },
    asResponse: true
  })
  const cookie = response.headers.getSetCookie().map((value) => value.split(";")[0]).join("; ")
  const headers = new Headers({ cookie })
  return async () => {
    const session = await auth.api.getSession({ headers })
    if (session === null) throw new Error("better-auth found no session")
  }
}
