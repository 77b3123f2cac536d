import { index, route, type RouteConfig } from "@react-router/dev/routes"

export default [
  index("routes/home.tsx"),
  // Sallyport's API and pages, and the files that Vite has built.
  route("sallyport/*", "routes/host.ts", { id: "sallyport" }),
  route("assets/*", "routes/host.ts", { id: "assets" })
] satisfies RouteConfig
