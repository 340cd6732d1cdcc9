import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import { TestDatabase } from "./setup/TestDatabase.ts"

const main = Path.join(import.meta.dirname, "bench", "main.ts")

/** The driver of `npm run bench`, without what installs the peers. */
const bench = (...args: ReadonlyArray<string>) =>
  Effect.promise(() => promisify(execFile)(process.execPath, ["--conditions=source", main, ...args]))

interface Results {
  readonly samples: ReadonlyArray<{ readonly peer: string; readonly values: Readonly<Record<string, number>> }>
}

describe("npm run bench", () => {
  it.effect("measures ours and the limit on a given server, and merges what two runs left", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "shigoto-bench-test-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(folder, { recursive: true })))
      const piece = Path.join(folder, "piece")
      yield* bench(
        "--quick",
        "--sources",
        "--workload",
        "drain",
        "--peer",
        "raw",
        "--url",
        Redacted.value(url),
        "--output",
        piece
      )
      const results = Path.join(piece, "results.json")
      const { stdout } = yield* bench("--merge", `${results},${results}`, "--output", Path.join(folder, "both"))
      assert.include(stdout, "## Drain of 50,000, one process, nothing kept (`drain`)")
      const read = (name: string) => Fs.readFileSync(Path.join(folder, "both", name), "utf8")
      const { samples } = JSON.parse(read("results.json")) as Results // what the driver has just written
      assert.deepStrictEqual(
        samples.map(({ peer }) => peer),
        ["shigoto", "raw", "shigoto", "raw"]
      )
      for (const { values } of samples) assert.isAbove(values.rate ?? 0, 0)
      assert.include(read("results.svg"), "Shigoto")
    }).pipe(Effect.provide(TestDatabase.layerDatabase({ empty: true })))
  )
})
