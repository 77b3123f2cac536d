#!/usr/bin/env node
import { enableCompileCache } from "node:module"
import { join } from "node:path"

// What was compiled at one start is not compiled at the next, which needs half the time. Node's own place for it, in the
// directory for temporary files, is open to other users.
const { HOME, LOCALAPPDATA, NODE_COMPILE_CACHE, XDG_CACHE_HOME } = process.env
const caches = XDG_CACHE_HOME ?? LOCALAPPDATA ?? (HOME === undefined ? undefined : join(HOME, ".cache"))
if (NODE_COMPILE_CACHE === undefined && caches !== undefined) enableCompileCache(join(caches, "sallyport", "compiled"))

const { main } = await import("./internal/program.ts")
main()
