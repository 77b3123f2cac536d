/** Makes the reference of the API from the doc comments: a page for each module, its exports by `@category`. */
import { globSync, readFileSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path/posix"
import {
  Application,
  Comment,
  type CommentDisplayPart,
  type DeclarationReflection,
  ReflectionKind,
  TSConfigReader
} from "typedoc"
import * as ts from "typescript"
import { root } from "./contents.ts"
import { staged, write } from "./stage.ts"

/** The order of the categories on a page; others follow by their names. */
const order = ["services", "constructors", "layers", "combinators", "getters", "guards", "models", "schemas", "errors"]

/** How many lines of a declaration are shown. */
const mostLines = 120

/** Returns what the comment at the head of a module says. typedoc takes it for that of the first import. */
const headComment = (file: string): string =>
  (/^(?:#!.*\n)?\/\*\*([^]*?)\*\//.exec(sourceOf(file).text)?.[1] ?? "").replaceAll(/^ *\* ?/gm, "").trim()

interface Module {
  /** As in `@sallyport/core/runs/RunEventLog`. */
  readonly specifier: string
  readonly address: string
  /** What the module is for. */
  readonly about: string
  readonly reflection: DeclarationReflection
}

const entryPoints = globSync("packages/*/src/{*,!(internal)/*}.ts", { cwd: root })
  .map((file) => file.replaceAll("\\", "/"))
  .filter((file) => !/\/internal\/|\/(?:index|bin)\.ts$|\.d\.ts$/.test(file)).sort()

const sources = new Map<string, ts.SourceFile>()

const sourceOf = (file: string): ts.SourceFile => {
  const known = sources.get(file)
  if (known !== undefined) return known
  const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true)
  sources.set(file, source)
  return source
}

/** Returns the part of a function's or a constant's declaration that says its type, without what it does. */
const headOf = (declaration: ts.VariableDeclaration, source: ts.SourceFile): string | undefined => {
  if (declaration.type !== undefined) return source.text.slice(declaration.name.getStart(), declaration.type.end)
  const value = declaration.initializer
  if (value !== undefined && ts.isArrowFunction(value) && value.type !== undefined) {
    return source.text.slice(declaration.name.getStart(), value.type.end)
  }
  return undefined
}

/** Returns a declaration as it stands in the source, or none if its type is not written out there. */
const declarationsOf = (source: ts.SourceFile, name: string): ReadonlyArray<string> =>
  source.statements.flatMap((statement) => {
    if (ts.isVariableStatement(statement)) {
      return statement.declarationList.declarations.filter((one) => one.name.getText() === name)
        .flatMap((one) => headOf(one, source) ?? []).map((head) => `const ${head}`)
    }
    const isNamed = ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement) ||
      ts.isClassDeclaration(statement) || ts.isFunctionDeclaration(statement)
    return isNamed && statement.name?.text === name
      ? [source.text.slice(statement.getStart(), statement.end).replace(/^export (?:declare )?/, "")]
      : []
  })

const commentOf = (reflection: DeclarationReflection): Comment | undefined =>
  reflection.comment ?? reflection.signatures?.[0]?.comment

const categoryOf = (reflection: DeclarationReflection): string => {
  const tag = commentOf(reflection)?.getTag("@category")
  return tag === undefined ? "others" : Comment.combineDisplayParts(tag.content).trim()
}

const capital = (word: string): string => word.slice(0, 1).toUpperCase() + word.slice(1)

const shorten = (code: string): string => {
  const lines = code.split("\n")
  return lines.length <= mostLines ? code : [...lines.slice(0, mostLines), "// and more"].join("\n")
}

/** Writes the pages of the reference. Fails if a comment links to what is not there. */
export const reference = async (): Promise<ReadonlyArray<string>> => {
  const app = await Application.bootstrap({
    entryPoints: entryPoints.map((file) => join(root, file)),
    tsconfig: join(root, "tsconfig.json"),
    basePath: join(root, "packages"),
    // What is inherited from Effect's classes is Effect's to describe, and takes minutes to read.
    excludeExternals: true,
    excludeInternal: true,
    excludePrivate: true,
    // `npm run check` has done it, with the compiler that the packages are made with.
    skipErrorChecking: true,
    disableGit: true,
    sourceLinkTemplate: "{path}",
    readme: "none",
    logLevel: "Error"
  }, [new TSConfigReader()])
  const project = await app.convert()
  if (project === undefined) throw new Error("typedoc has read nothing")

  const modules = (project.getChildrenByKind(ReflectionKind.Module)).map((reflection): Module => {
    const path = reflection.name.replace(/^(\w[\w-]*)\/src\//, "$1/")
    const address = `/api/${path}`
    const names = new Set(reflection.children?.map(({ name }) => name))
    const about = headComment(join(root, "packages", `${reflection.name}.ts`)).replaceAll(
      /\{@link (\w+)\}/g,
      (_, name) => names.has(name) ? `[\`${name}\`](${address}#${basename(path)}-${name})` : `\`${name}\``
    )
    return { specifier: `@sallyport/${path}`, address, about, reflection }
  })
  const addresses = new Map<number, string>()
  for (const { address, reflection } of modules) {
    for (const child of reflection.children ?? []) {
      addresses.set(child.id, `${address}#${basename(address)}-${child.name}`)
    }
  }

  const linkOf = (part: CommentDisplayPart): string => {
    if (part.kind !== "inline-tag") return part.text
    const target = typeof part.target === "object" && "id" in part.target ? part.target : undefined
    const address = target === undefined ? undefined : addresses.get(target.id)
    return address === undefined ? `\`${part.text}\`` : `[\`${part.text}\`](${address})`
  }
  const textOf = (comment: Comment | undefined): string =>
    comment === undefined ? "" : [
      comment.summary.map(linkOf).join(""),
      ...comment.blockTags.filter(({ tag }) => !["@category", "@since", "@see"].includes(tag))
        .map(({ content, tag }) => `${capital(tag.slice(1))}: ${content.map(linkOf).join("")}`)
    ].join("\n\n").trim()

  const describe = (module: string, name: string, all: ReadonlyArray<DeclarationReflection>): string => {
    const code = new Set(all.flatMap((reflection) => {
      const file = reflection.sources?.[0]?.fullFileName
      const written = file === undefined ? [] : declarationsOf(sourceOf(file), name)
      return written.length > 0 || reflection.type === undefined ? written : [`const ${name}: ${reflection.type}`]
    }))
    const comments = new Set(all.map((reflection) => textOf(commentOf(reflection))))
    return [
      `### ${name} {#${module}-${name}}`,
      ...comments,
      ...code.size === 0 ? [] : ["```ts\n" + [...code].map(shorten).join("\n\n") + "\n```"]
    ].filter((part) => part !== "").join("\n\n")
  }

  for (const { about, address, reflection, specifier } of modules) {
    // A type and a value of one name are told of together.
    const byName = Map.groupBy(
      (reflection.children ?? []).filter((child) => child.kind !== ReflectionKind.Reference),
      ({ name }) => name
    )
    const byCategory = Map.groupBy(byName, ([, [first]]) => first === undefined ? "others" : categoryOf(first))
    const rank = (category: string) => (order.indexOf(category) + order.length + 1) % (order.length + 1)
    const categories = [...byCategory].sort(([a], [b]) => rank(a) - rank(b) || a.localeCompare(b))
    const name = specifier.slice(specifier.lastIndexOf("/") + 1)
    write(
      address,
      [
        `# ${name}`,
        `\`\`\`ts\nimport * as ${name} from "${specifier}"\n\`\`\``,
        about,
        ...categories.flatMap(([category, members]) => [
          `## ${capital(category)}`,
          ...members.map(([member, all]) => describe(name, member, all))
        ])
      ].filter((part) => part !== "").join("\n\n")
    )
  }

  const packages = [...Map.groupBy(modules, ({ specifier }) => specifier.split("/").slice(0, 2).join("/"))]
  const sidebar = packages.map(([name, modules]) => ({
    text: name,
    collapsed: true,
    items: modules.map(({ address, specifier }) => ({ text: specifier.slice(name.length + 1), link: address }))
  }))
  writeFileSync(join(staged, "api/sidebar.json"), JSON.stringify(sidebar))
  const firstSentence = (about: string) =>
    (/^[^]*?[.:](?=\s|$)/.exec(about)?.[0] ?? about).replace(/:$/, ".").replaceAll("\n", " ").replaceAll("|", "\\|")
  write(
    "/api/index",
    [
      "# Reference",
      "Each module is one file, imported as a namespace. What is below `internal/` cannot be imported.",
      ...packages.map(([name, modules]) =>
        [
          `## ${name}`,
          "",
          "| module | |",
          "| --- | --- |",
          ...modules.map(({ about, address, specifier }) =>
            `| [\`${specifier.slice(name.length + 1)}\`](${address}) | ${firstSentence(about)} |`
          )
        ].join("\n")
      )
    ].join("\n\n")
  )
  return modules.map(({ specifier }) => specifier)
}
