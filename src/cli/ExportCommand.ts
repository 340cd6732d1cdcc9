/**
 * `shigoto export`: all jobs that match with what they carry, a page at a time, whatever their number.
 *
 * The newest come first and each comes once. What changes while it goes on is told as it was read.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { JobRow } from "../JobRow.ts"
import { Jobs } from "../Jobs.ts"
import { makeBar } from "./internal/bar.ts"
import { connected } from "./internal/connection.ts"
import { int } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"
import { filterOf, jobsArgument, select } from "./internal/selection.ts"
import * as shapes from "./internal/shapes.ts"
import { json, many } from "./internal/text.ts"

/**
 * The command.
 *
 * @category commands
 */
export const exportJobs = Command.make(
  "export",
  {
    jobs: jobsArgument,
    limit: int("limit", 1, Number.MAX_SAFE_INTEGER).pipe(
      Flag.withAlias("n"),
      Flag.withDescription("How many jobs at most; else all"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ jobs: operands, limit }) {
    const screen = yield* Screen
    const filter = filterOf(yield* select(operands))
    const most = Option.getOrElse(limit, () => Infinity)
    const isOneValue = screen.format === "json"
    const bar = makeBar(screen, "exporting", undefined)
    const told = yield* connected(
      Effect.gen(function* () {
        const jobs = yield* Jobs
        let done = 0
        let after: JobRow | undefined
        if (isOneValue) yield* screen.write(`{ "jobs": [`)
        while (done < most) {
          const size = Math.min(pageSize, most - done)
          const page: ReadonlyArray<JobRow> = yield* jobs.list({ ...filter, limit: size, after })
          const items = page.map((job) => json(shapes.jobDetail(job, screen.redact(job))))
          yield* screen.write(
            isOneValue
              ? items.map((item, i) => `${done + i === 0 ? "" : ","}\n${item}`).join("")
              : items.map((item) => `${item}\n`).join("")
          )
          done += page.length
          yield* bar.draw(done)
          if (page.length < size) break
          after = page.at(-1)
        }
        if (isOneValue) yield* screen.write("\n] }\n")
        return done
      })
    ).pipe(Effect.ensuring(bar.end))
    if (screen.isAnimated) yield* screen.say(`${many(told, "job")} exported.`, "dim")
  })
).pipe(
  Command.withDescription("Write all jobs that match with what they carry, a JSON object a line; --json for one value"),
  Command.withExamples([
    { command: "shigoto export state:discarded > discarded.ndjson", description: "What was given up" },
    { command: "shigoto export 'finished:<1d' | jq -r .worker | sort | uniq -c", description: "Of the last day" }
  ])
)

// internal

const pageSize = 500
