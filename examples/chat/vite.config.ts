import { defineConfig } from "vite"

// The sources of this repository. An application that has installed the packages needs only what `build` says.
export default defineConfig({
  logLevel: "error",
  resolve: { conditions: ["sallyport-source", "module", "browser"] },
  oxc: { jsx: { runtime: "automatic", development: false } },
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
  build: { target: "es2022" }
})
