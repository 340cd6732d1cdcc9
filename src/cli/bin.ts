#!/usr/bin/env node
/**
 * The executable. It imports nothing itself, so that a Node which cannot run the rest is told so, and not with a stack.
 */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(`error: shigoto needs Node 22.19 or newer; this is ${process.version} (${process.execPath}).\n`)
  process.exitCode = 1
} else {
  const { main } = await import("./Cli.ts")
  main()
}
