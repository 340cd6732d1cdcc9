import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { TallyReporter } from "./setup/tallyReporter.ts"

/**
 * `effect-shigoto` in tests and examples is the source tree, not a build that may be stale. Without `module`, which is
 * for bundlers: vitest hands these conditions to Node, which cannot load what some packages have under it.
 */
const conditions = ["source", "node", "development|production"]

export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: ["source", "node"] } },
  test: {
    include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
    // Minutes long, or in need of a browser or of a registry: they have commands of their own.
    exclude: ["test/chaos/**", "test/bench/**", "test/browser/**", "test/package/**"],
    globalSetup: ["test/setup/globalSetup.ts", "test/setup/page.ts"],
    reporters: ["default", new TallyReporter()],
    pool: "forks",
    // Each file has its own database, but all share one server and, on the smallest machine that counts, two cores.
    maxWorkers: 2,
    // For what hangs alone; a machine may be ten times slower than another.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    teardownTimeout: 30_000,
    // For what tests start or import outside of Vite.
    execArgv: ["--conditions=source"]
  }
})
