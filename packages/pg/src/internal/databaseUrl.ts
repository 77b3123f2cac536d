/**
 * What the URL of a database says, in the form that PostgreSQL's own programs take it.
 */
import * as Result from "effect/Result"

/** Holds what a URL says. */
export interface DatabaseUrl {
  /** The server and the database, without user and password. */
  readonly name: string
  /** The URL as the driver reads it. */
  readonly url: string
  /** Whether the URL asks for prepared statements, if it says so. */
  readonly prepare: boolean | undefined
}

/** Says what form a URL has. */
export const form = "an address of the form postgres://user:password@host:5432/database"

const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

const isPort = (text: string) => /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535

/** What each parameter must be; no problem shows a value, which may be a part of a password. */
const parameters: Readonly<Record<string, readonly [expected: string, isValid: (value: string) => boolean]>> = {
  host: ["a host, or a directory that begins with /", (value) => value !== "" && !value.includes(",")],
  port: ["a whole number from 1 to 65535", isPort],
  user: ["a name", (value) => value !== ""],
  password: ["a password", () => true],
  dbname: ["a name", (value) => value !== ""],
  application_name: ["a name", () => true],
  options: ["options of the server, such as -c%20search_path=app", () => true],
  connect_timeout: ["a whole number of seconds", (value) => /^\d{1,9}$/.test(value)],
  sslmode: [`one of ${sslModes.join(", ")}`, (value) => sslModes.includes(value)],
  prepare: ["true or false", (value) => value === "true" || value === "false"]
}

const hints: Readonly<Record<string, string>> = {
  sslrootcert: "; name the file of certificates in the variable NODE_EXTRA_CA_CERTS instead",
  pgbouncer: "; write prepare=false instead"
}

// A second "@" would be in a path or a query: then a password has characters that end it, and is not to be shown.
const syntax =
  /^postgres(?:ql)?:\/\/(?:([^/?#]*)@)?(\[[^\]/?#@]*\]|[^/?#@:[\]]*)(?::([^/?#@:]*))?(?:\/([^?#@]*))?(?:\?([^#@]*))?$/i

const decode = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** Returns what a URL says, or what it must be: the sentence begins with the URL's name. */
export const read = (text: string): Result.Result<DatabaseUrl, string> => {
  const [whole, credentials = "", authority = "", port = "", path = "", query = ""] = syntax.exec(text) ?? []
  const parts = [...credentials.split(":"), authority, path].map(decode)
  if (whole === undefined || parts.includes(undefined) || /%(?![\da-f]{2})/i.test(query)) {
    return Result.fail(
      `must be ${form}${
        /^[^/?#]*[/?#].*@/s.test(text.replace(/^\w+:\/\//, ""))
          ? "; write / ? # and @ in a password as %2F %3F %23 and %40"
          : ""
      }`
    )
  }
  if (authority.includes(",") || port.includes(",")) return Result.fail("must name one host; it names several")
  if (port !== "" && !isPort(port)) return Result.fail("must have a port from 1 to 65535")
  const given = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(query)) {
    const known = Object.hasOwn(parameters, name) ? parameters[name] : undefined
    if (known === undefined) {
      return Result.fail(
        `has a parameter that is not understood: ${name}${Object.hasOwn(hints, name) ? hints[name] : ""}. ` +
          `These are: ${Object.keys(parameters).join(", ")}`
      )
    }
    const [expected, isValid] = known
    if (!isValid(value)) return Result.fail(`has a parameter ${name} that must be ${expected}`)
    given.set(name, value)
  }
  const host = given.get("host") ?? decode(authority) ?? ""
  const database = given.get("dbname") ?? decode(path) ?? ""
  if (host === "") {
    return Result.fail(`must be ${form}; a socket is named by its directory, as in ?host=/var/run/postgresql`)
  }
  const prepare = given.get("prepare")
  const toPort = given.get("port") ?? port
  return Result.succeed({
    name: host.startsWith("/")
      ? `postgres:///${database}?host=${host}${toPort === "" ? "" : `&port=${toPort}`}`
      : `postgres://${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}${
        toPort === "" ? "" : `:${toPort}`
      }/${database}`,
    // A URL whose host stands in a parameter may have a user, and a port, before none.
    url: authority === "" ? text.replace(/^(\w+:\/\/(?:[^/?#]*@)?)/, "$1localhost") : text,
    prepare: prepare === undefined ? undefined : prepare === "true"
  })
}
