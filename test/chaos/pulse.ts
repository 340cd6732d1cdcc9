/**
 * When the event loop of a process turned: what it left undone while it could not turn is no fault of the library. Each
 * turn of a timer goes to a file at once, so that it is there however the process ends.
 */
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { pulseMillis } from "./settings.ts"
import { Truth } from "./truth.ts"

/** Records the turns of this process in a directory, until what it returns is called or the process ends. */
export const start = (directory: string, name: string): (() => void) => {
  const file = Fs.openSync(Path.join(directory, `${name}${suffix}`), "a")
  // The clock of the machine: what the library takes for the time may be wrong.
  const turn = (): void => void Fs.writeSync(file, `${Date.now()}\n`)
  // One that is stopped before its timer is due has turned once.
  turn()
  const timer = setInterval(turn, pulseMillis).unref()
  return () => {
    clearInterval(timer)
    Fs.closeSync(file)
  }
}

/** Copies the turns of all processes into the event log. */
export const collect = Effect.fnUntraced(function* (directory: string) {
  const { sql } = yield* Truth
  for (const file of Fs.readdirSync(directory).filter((file) => file.endsWith(suffix))) {
    const turns = Fs.readFileSync(Path.join(directory, file), "utf8").split("\n").slice(0, -1)
    yield* sql`
      INSERT INTO pulse
      SELECT ${file.slice(0, -suffix.length)}, to_timestamp(millis::double precision / 1000)
      FROM json_array_elements_text(${JSON.stringify(turns)}::text::json) AS millis`
  }
})

// internal

const suffix = ".pulse"
