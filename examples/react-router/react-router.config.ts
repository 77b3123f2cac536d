import type { Config } from "@react-router/dev/config"

export default {
  appDirectory: "src/app",
  buildDirectory: process.env["BUILD_DIRECTORY"] ?? "dist"
} satisfies Config
