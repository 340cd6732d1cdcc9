/**
 * `shigoto prune`: forgets history now, by a retention that somebody has said.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Jobs } from "../Jobs.ts"
import * as Pruner from "../Pruner.ts"
import * as ShigotoConfig from "../ShigotoConfig.ts"
import { confirm } from "./internal/ask.ts"
import { connectedWith } from "./internal/connection.ts"
import { UsageError } from "./internal/exit.ts"
import { Loaded } from "./internal/load.ts"
import { readDuration } from "./internal/moment.ts"
import { dryRun, yes } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"
import { count, duration } from "./internal/text.ts"

const states = ["completed", "discarded", "cancelled"] as const

const retention = (state: (typeof states)[number]) =>
  Flag.String(state).pipe(
    Flag.withMetavar("<duration>"),
    Flag.withDescription(`How long ${state} jobs are kept, such as 14d; 0s keeps none`),
    Flag.optional
  )

/**
 * The command.
 *
 * @category commands
 */
export const prune = Command.make(
  "prune",
  {
    completed: retention("completed"),
    discarded: retention("discarded"),
    cancelled: retention("cancelled"),
    yes,
    dryRun
  },
  Effect.fnUntraced(function* ({ dryRun, yes, ...flags }) {
    const screen = yield* Screen
    const config = yield* (yield* Loaded).found
    const kept: { [K in (typeof states)[number]]?: Duration.Input } = {}
    for (const state of states) {
      const flag = Option.getOrUndefined(flags[state])
      const wanted = flag === undefined ? config?.settings?.retention?.[state] : yield* readDuration(state, flag)
      if (wanted !== undefined) kept[state] = wanted
      // The defaults are not necessarily what the application says, and what is dropped stays dropped.
      else if (config?.settings === undefined) {
        return yield* new UsageError({
          message: `How long are ${state} jobs kept? Nothing here says so, and the application may keep them longer than the default.`,
          hint: "Pass --completed 14d --discarded 90d --cancelled 14d, or a config module with the application's settings."
        })
      }
    }
    const settings = { ...config?.settings, retention: kept }
    const made = yield* ShigotoConfig.make(settings)
    yield* connectedWith(
      { ...config, settings },
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const past = yield* Effect.forEach(states, (state) =>
          Effect.map(jobs.count({ state, finished: { to: made.retention[state] } }), (found) => ({
            state,
            keptMillis: Duration.toMillis(made.retention[state]),
            ...found
          }))
        )
        const told = past.map(
          (one) => `${count(one.count)}${one.isExact ? "" : "+"} ${one.state} (kept for ${duration(one.keptMillis)})`
        )
        if (dryRun) {
          return yield* screen.show(
            { dryRun, past },
            screen.say(`Past their time: ${told.join(", ")}. What shares a partition with younger ones stays for now.`)
          )
        }
        if (!yes) yield* screen.say(`Past their time: ${told.join(", ")}.`)
        yield* confirm("Forget them, with their logs, and what else is out of date?", yes)
        const history = yield* Pruner.round
        yield* screen.show(
          { history },
          screen.table(
            [
              { title: "STATE" },
              { title: "DROPPED PARTITIONS", align: "right" },
              { title: "NEW PARTITIONS", align: "right" },
              { title: "DELETED JOBS", align: "right" },
              { title: "STATUS" }
            ],
            history.map(({ deleted, dropped, made, postponed, state }) => [
              state,
              count(dropped),
              count(made),
              count(deleted),
              postponed ? ["a lock was taken: try again", "yellow"] : ["done", "green"]
            ])
          )
        )
      })
    )
  })
).pipe(
  Command.withDescription("Forget history that is past its retention now; nodes do so every ten minutes by themselves")
)
