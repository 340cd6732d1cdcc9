import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { TallyReporter } from "../setup/tallyReporter.ts"

/** Asks the registry and takes minutes, so it is a command of its own. */
export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    include: ["test/package/*.test.ts"],
    reporters: ["default", new TallyReporter()],
    pool: "forks",
    testTimeout: 300_000,
    hookTimeout: 600_000,
    execArgv: ["--conditions=source"]
  }
})
