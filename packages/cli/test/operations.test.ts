import { assert, describe, it } from "@effect/vitest"
import * as NFS from "node:fs"
import * as NPath from "node:path"

const root = NPath.join(import.meta.dirname, "../../..")
const plain = (text: string) => text.replaceAll(/\s+/g, " ")
const page = plain(NFS.readFileSync(NPath.join(root, "docs/operations.md"), "utf8"))

const sources = NFS.globSync("packages/*/src/**/*.ts", { cwd: root }).filter((path) =>
  !path.startsWith("packages/testing/")
)

/** What a server logs from the level of information on: the constant parts of each sentence. */
const sentences = sources.flatMap((path) => {
  const text = NFS.readFileSync(NPath.join(root, path), "utf8").replaceAll(/^ *(\*|\/\/).*$/gm, "")
  const logged = text.matchAll(
    /(?:\blog(?:Info|Warning|Error|Fatal)\(|\bbegins:|\bends:|^const insecure =)\s*(?:"((?:[^"\\]|\\.)+)"|`((?:[^`\\]|\\.)+)`)/gm
  )
  return Array.from(logged, ([, quoted, template]) => ({
    path,
    parts: (quoted ?? template ?? "").split(/\$\{[^}]*\}/).map((part) => plain(part).trim()).filter((part) =>
      part.length > 3
    )
  }))
})

describe("docs/operations.md", () => {
  it("OPS-06: has each sentence that a server logs", () => {
    assert.isAbove(sentences.length, 30)
    for (const { parts, path } of sentences) {
      for (const part of parts) {
        // Of a sentence with its remedy the page has the first part.
        const beginning = part.split(": anyone on the network")[0] ?? part
        assert.include(page, beginning, `${path} logs what the page does not explain`)
      }
    }
  })

  it("OPS-08: the files of deployments stop and probe the backend as it is made to be, and not as root", () => {
    const read = (name: string) => NFS.readFileSync(NPath.join(root, "deploy", name), "utf8")
    const image = read("Dockerfile")
    assert.match(image, /^USER node$/m)
    assert.match(image, /^STOPSIGNAL SIGTERM$/m)
    for (const text of [image, read("kubernetes.yaml")]) assert.include(text, "/api/health/ready")
    assert.match(read("kubernetes.yaml"), /runAsNonRoot: true/)
    assert.match(read("sallyport.service"), /^DynamicUser=yes$/m)
    assert.match(read("sallyport.service"), /^StateDirectory=/m)
    const manifest: { readonly bin: Readonly<Record<string, string>> } = JSON.parse(
      NFS.readFileSync(NPath.join(root, "packages/cli/package.json"), "utf8")
    )
    const program = NPath.posix.join("@sallyport/cli", manifest.bin["sallyport"] ?? "")
    for (const name of ["Dockerfile", "sallyport.service"]) assert.include(read(name), program)
  })
})
