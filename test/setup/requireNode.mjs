// Runs before everything else, also on the Node versions that it refuses: plain JavaScript, no dependencies.
// npm puts the pinned Node (the `node` devDependency) first on PATH; it is missing if its install script was blocked.
import process from "node:process"

const required = [22, 19]
const [major, minor] = process.versions.node.split(".").map(Number)

if (major < required[0] || (major === required[0] && minor < required[1])) {
  console.error(
    [
      "Shigoto needs Node >= " + required.join(".") + ", and this is Node " + process.versions.node + ".",
      "",
      "The repository brings its own Node as a devDependency, but it is not in place: npm did not run its",
      "install script. Either run",
      "",
      "    npm install-scripts approve node && npm rebuild node",
      "",
      "(with npm before 11: npm rebuild node --ignore-scripts=false), or put Node >= " +
        required.join(".") +
        " on your PATH."
    ].join("\n")
  )
  process.exit(1)
}
