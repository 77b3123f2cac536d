import { reactRouter } from "@react-router/dev/vite"
import { defineConfig } from "vite"

export default defineConfig({
  logLevel: "error",
  plugins: [reactRouter()],
  environments: {
    ssr: {
      build: {
        rolldownOptions: {
          // The program that starts the server; what React Router makes of the routes is a part of it.
          input: "src/main.ts",
          // Node takes these as they are. Vite does so by itself if they are installed, and not linked as in this repository.
          external: [/^@sallyport\//]
        }
      }
    }
  }
})
