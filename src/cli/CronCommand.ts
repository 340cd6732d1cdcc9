/**
 * `shigoto cron`: what ticks when, and control over it.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { type CronEntry, CronJobs, toJson } from "../CronJobs.ts"
import type { CronNotFound, StorageFailure } from "../ShigotoError.ts"
import { confirm } from "./internal/ask.ts"
import { connected } from "./internal/connection.ts"
import { NotFound } from "./internal/exit.ts"
import { dryRun, int, yes } from "./internal/options.ts"
import { type Cell, Screen } from "./internal/screen.ts"
import { relative } from "./internal/text.ts"

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function* () {
    const screen = yield* Screen
    const entries = yield* connected(Effect.flatMap(CronJobs, (cron) => cron.list))
    const now = (yield* DateTime.now).epochMilliseconds
    yield* screen.showList(
      {
        name: "cron",
        items: entries.map((entry) => toJson({ ...entry, args: screen.redactValue(entry.args, entry.worker) }))
      },
      entries.length === 0
        ? screen.say("There are no cron entries.")
        : screen.table(
            [
              { title: "NAME", shrinkTo: 8 },
              { title: "CRON", shrinkTo: 9 },
              { title: "TIMEZONE", shrinkTo: 6, optional: 2 },
              { title: "WORKER", shrinkTo: 8 },
              { title: "QUEUE", shrinkTo: 6, optional: 3 },
              { title: "SOURCE", optional: 4 },
              { title: "NEXT", align: "right" },
              { title: "STATUS", shrinkTo: 8 }
            ],
            entries.map((entry): ReadonlyArray<Cell> => [
              entry.name,
              entry.cron,
              entry.timezone,
              entry.worker,
              entry.queue,
              entry.source,
              entry.nextTick === undefined
                ? "–"
                : screen.isTerminal
                  ? relative(entry.nextTick.epochMilliseconds, now)
                  : DateTime.formatIso(entry.nextTick),
              standing(entry)
            ])
          )
    )
  })
).pipe(Command.withDescription("List the cron entries"))

const name = Argument.String("name").pipe(Argument.withDescription("The entry's name"))

const next = Command.make(
  "next",
  {
    name,
    count: int("count", 1, 1000).pipe(
      Flag.withAlias("n"),
      Flag.withDescription("How many ticks, up to 1000"),
      Flag.withDefault(5)
    )
  },
  Effect.fnUntraced(function* ({ count, name }) {
    const screen = yield* Screen
    const { entry, ticks } = yield* connected(
      Effect.gen(function* () {
        const cron = yield* CronJobs
        return { entry: yield* find(name), ticks: yield* cron.preview(name, count) }
      })
    )
    const now = (yield* DateTime.now).epochMilliseconds
    yield* screen.showList(
      { name: "ticks", items: ticks.map(DateTime.formatIso) },
      ticks.length === 0
        ? screen.say(entry.problem ?? "It never ticks again.")
        : screen.table(
            [{ title: "UTC" }, { title: "LOCAL" }, { title: "IN", align: "right" }],
            ticks.map((tick) => [
              DateTime.formatIso(tick),
              local(tick, entry.timezone),
              relative(tick.epochMilliseconds, now)
            ])
          )
    )
    if (entry.paused) yield* screen.say("It is paused: none of these ticks until it is resumed.", "yellow")
  })
).pipe(Command.withDescription("Show the next ticks of an entry, over changes of the clock too"))

const change = <A>(
  verb: "pause" | "resume" | "run",
  done: string,
  description: string,
  act: (cron: CronJobs["Service"], name: string) => Effect.Effect<A, CronNotFound | StorageFailure>,
  more: (value: A) => { readonly job?: number } = () => ({})
) =>
  Command.make(
    verb,
    { name, dryRun },
    Effect.fnUntraced(function* ({ dryRun, name }) {
      const screen = yield* Screen
      const result = yield* connected(
        Effect.gen(function* () {
          yield* find(name)
          return dryRun ? undefined : more(yield* act(yield* CronJobs, name))
        })
      )
      const job = result?.job
      yield* screen.show(
        { name, outcome: done, dryRun, ...result },
        screen.say(
          `${name} ${dryRun ? `would be ${done}` : `is ${done}`}${job === undefined ? "" : ` as job #${job}`}.`
        )
      )
    })
  ).pipe(Command.withDescription(description))

const remove = Command.make(
  "remove",
  { name, yes, dryRun },
  Effect.fnUntraced(function* ({ dryRun, name, yes }) {
    const screen = yield* Screen
    yield* connected(
      Effect.gen(function* () {
        const entry = yield* find(name)
        if (dryRun) return
        const back = entry.source === "code" ? " It comes back as a node starts that has it in its code." : ""
        yield* confirm(`Remove the cron entry ${name} (${entry.cron}, ${entry.worker})?${back}`, yes)
        yield* (yield* CronJobs).remove(name)
      })
    )
    yield* screen.show(
      { name, outcome: "removed", dryRun },
      screen.say(`${name} ${dryRun ? "would be" : "is"} removed.`)
    )
  })
).pipe(Command.withDescription("Remove an entry; its jobs stay"))

/**
 * The command.
 *
 * @category commands
 */
export const cron = Command.make("cron").pipe(
  Command.withDescription("List, pause, resume, run and remove cron entries; show their next ticks"),
  Command.withSubcommands([
    list,
    next,
    change(
      "run",
      "run",
      "Insert a job of an entry now, beside its ticks",
      (cron, name) => cron.runNow(name),
      (job) => ({
        job
      })
    ),
    change("pause", "paused", "Stop an entry from ticking, also over restarts", (cron, name) => cron.pause(name)),
    change("resume", "resumed", "Let an entry tick again from now on", (cron, name) => cron.resume(name)),
    remove
  ])
)

// internal

const standing = (entry: CronEntry): Cell =>
  entry.problem !== undefined
    ? [entry.problem, "red"]
    : entry.paused
      ? ["paused", "yellow"]
      : entry.workerKnown
        ? ["ok", "green"]
        : ["no worker", "yellow"]

const find = Effect.fnUntraced(function* (name: string) {
  const entries = yield* (yield* CronJobs).list
  const entry = entries.find((one) => one.name === name)
  if (entry !== undefined) return entry
  const known = entries.map((one) => one.name)
  return yield* new NotFound({
    message: `There is no cron entry ${JSON.stringify(name)}${known.length === 0 ? "" : `; there are ${known.slice(0, 10).join(", ")}${known.length > 10 ? ", …" : ""}`}.`
  })
})

/** A tick by the clock of its zone; the zone of a stored entry may be unknown here. */
const local = (tick: DateTime.Utc, timezone: string): string => {
  try {
    return new Intl.DateTimeFormat("sv-SE", { timeZone: timezone, dateStyle: "short", timeStyle: "medium" }).format(
      DateTime.toDateUtc(tick)
    )
  } catch {
    return "–"
  }
}
