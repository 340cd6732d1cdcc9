/** `npm run bench`: installs the peers on first use (only here, never for users), builds the package, runs the driver. */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const here = fileURLToPath(new URL(".", import.meta.url))
const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"))
const installed = ([name, version]) => {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url)
  return existsSync(file) && JSON.parse(readFileSync(file, "utf8")).version === version
}
if (!Object.entries(dependencies).every(installed)) {
  console.error("Installing the peers into test/bench (once) …")
  const { status } = spawnSync("npm", ["install"], { cwd: here, stdio: "inherit", shell: process.platform === "win32" })
  if (status !== 0) process.exit(status ?? 1)
}
// What is measured is what users install.
if (!process.argv.includes("--sources") && !process.argv.includes("--merge")) {
  const tsc = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url))
  const { status } = spawnSync(process.execPath, [tsc, "-p", fileURLToPath(new URL("../..", import.meta.url))], {
    stdio: "inherit"
  })
  if (status !== 0) process.exit(status ?? 1)
}
await import("./main.ts")
