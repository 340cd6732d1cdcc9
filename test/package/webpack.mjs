/** Bundles an entry with webpack, which has no command of its own: `node webpack.mjs ENTRY FILE`. */
import * as Path from "node:path"
import webpack from "webpack"

const [entry, file] = process.argv.slice(2)
webpack(
  {
    mode: "production",
    target: "node22",
    context: Path.dirname(entry),
    entry,
    experiments: { outputModule: true },
    output: { module: true, path: Path.dirname(file), filename: Path.basename(file) }
  },
  (error, stats) => {
    const told = error ?? stats.toString({ all: false, errors: true, warnings: true })
    if (told === "") return
    console.error(told)
    process.exitCode = 1
  }
)
