/** Builds the dashboard's page where it has not been built: what tests are served is what users are. */
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

export default function setup(): void {
  if (existsSync(`${root}/dist/ui/index.html`)) return
  execFileSync(
    process.execPath,
    ["node_modules/vite/bin/vite.js", "build", "--config", "src/dashboard/ui/vite.config.ts", "--logLevel", "error"],
    {
      cwd: root,
      // What vitest sets would have it build for development.
      env: { ...process.env, NODE_ENV: "production" },
      stdio: ["ignore", "ignore", "inherit"]
    }
  )
}
