/** Makes the worker one file, with everything that it imports: workerd takes no packages. */
import { defineConfig } from "vite"

const conditions = ["sallyport-source", "workerd"]

export default defineConfig({
  ssr: { target: "webworker", noExternal: true, resolve: { conditions } },
  build: {
    ssr: "src/workerd.ts",
    target: "es2023",
    rolldownOptions: { output: { entryFileNames: "workerd.js", codeSplitting: false } }
  }
})
