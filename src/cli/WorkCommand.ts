/**
 * `shigoto work`: runs the workers of a config module, until a signal asks it to stop by the book.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type { LogLevel } from "effect/LogLevel"
import * as Option from "effect/Option"
import * as References from "effect/References"
import { Jobs } from "../Jobs.ts"
import { Queues } from "../Queues.ts"
import * as ShigotoConfig from "../ShigotoConfig.ts"
import { ShigotoLive } from "../ShigotoLive.ts"
import { Workers } from "../Workers.ts"
import type { Config } from "./Config.ts"
import { environmentSettings, layerCipher, targetOf } from "./internal/connection.ts"
import { Ending } from "./internal/environment.ts"
import { Failed, UsageError } from "./internal/exit.ts"
import { Loaded } from "./internal/load.ts"
import { Screen } from "./internal/screen.ts"
import { many } from "./internal/text.ts"

/**
 * The command.
 *
 * @category commands
 */
export const work = Command.make(
  "work",
  {
    queues: Flag.String("queues").pipe(
      Flag.withAlias("q"),
      Flag.withMetavar("<name:slots,…>"),
      Flag.withDescription(
        "Only these queues, and how many jobs of each run at once; else SHIGOTO_QUEUES, else the config module"
      ),
      Flag.optional
    ),
    once: Flag.Boolean("once").pipe(
      Flag.withDescription("End as soon as no job of these workers and queues is available or running"),
      Flag.withDefault(false)
    ),
    migrate: Flag.Boolean("migrate").pipe(
      Flag.withDescription("Bring the schema up to date first; else as SHIGOTO_MIGRATE or the config module says"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ migrate, once, queues }) {
    const screen = yield* Screen
    const ending = yield* Ending
    const config = yield* (yield* Loaded).found
    if (config?.workers === undefined) {
      return yield* new UsageError({
        message:
          config === undefined ? "There is no config module to run workers from." : "The config module has no workers.",
        hint: "shigoto init writes a shigoto.config.ts; --config names one that is elsewhere."
      })
    }
    const { pool, schema, shown } = yield* targetOf(config)
    const settings: ShigotoConfig.Options = {
      ...config.settings,
      ...(yield* environmentSettings),
      schema,
      ...(Option.isSome(migrate) ? { migrate: migrate.value } : {}),
      ...(Option.isSome(queues) ? { queues: yield* readQueues(config, queues.value) } : {})
    }
    // A signal is how this ends well: after it, everything has been given back.
    ending.bySignal = true
    const app = workersOf(config.workers).pipe(
      Layer.provideMerge(ShigotoLive),
      Layer.provideMerge(ShigotoConfig.layer(settings)),
      Layer.provide(layerCipher(config)),
      Layer.provideMerge(PgClient.layer({ applicationName: "shigoto-work", ...config.pool, ...pool })),
      Layer.provideMerge(
        loggers(
          screen.format === "text",
          screen.isAnimated,
          Option.getOrElse(yield* GlobalFlag.LogLevel, () => "Info" as const)
        )
      )
    )
    yield* Effect.gen(function* () {
      const workers = [...(yield* Workers).all()].map((worker) => worker.name).toSorted()
      const served = yield* (yield* Queues).list
      yield* screen.say(
        `Working on ${shown}: ${served.map((queue) => `${queue.name}:${queue.concurrency}`).join(", ")} · ${many(workers.length, "worker")}: ${workers.join(", ")}`,
        "dim"
      )
      yield* once ? drained(workers) : Effect.never
    }).pipe(Effect.provide(app))
  })
).pipe(
  Command.withDescription(
    "Run the workers of a config module; SIGTERM and Ctrl-C let running jobs end, and exit with 0"
  ),
  Command.withExamples([
    { command: "shigoto work", description: "With shigoto.config.ts of the working directory" },
    { command: "shigoto work --queues emails:20 --once", description: "Drain one queue and end" }
  ])
)

// internal

const workersOf = <R>(workers: Layer.Layer<never, unknown, R>): Layer.Layer<never, Failed, R> =>
  Layer.catchCause(workers, (cause) =>
    Layer.effectDiscard(
      Cause.hasInterruptsOnly(cause)
        ? Effect.interrupt
        : Effect.fail(new Failed({ message: `The workers of the config module cannot start: ${Cause.pretty(cause)}` }))
    )
  )

/** Logs are talk: standard output stays free. */
const loggers = (forPeople: boolean, inTerminal: boolean, level: LogLevel): Layer.Layer<never> =>
  Layer.merge(
    Layer.succeed(References.MinimumLogLevel, level),
    Logger.layer([
      Logger.withConsoleError(!forPeople ? Logger.formatJson : inTerminal ? Logger.formatSimple : Logger.formatLogFmt)
    ])
  )

const readQueues = Effect.fnUntraced(function* (config: Config, text: string) {
  const given: Record<string, number | ShigotoConfig.QueueOptions> = {}
  for (const part of text.split(",")) {
    const [, name, slots] = /^(.+?)(?::(\d+))?$/.exec(part.trim()) ?? []
    if (name === undefined) {
      return yield* new UsageError({ message: `--queues cannot be ${JSON.stringify(text)}: write emails:5,reports:1.` })
    }
    const configured = config.settings?.queues?.[name]
    const before = typeof configured === "object" ? configured : { concurrency: configured ?? 10 }
    given[name] = { ...before, ...(slots === undefined ? {} : { concurrency: Number(slots) }) }
  }
  return given
})

/** Waits until nothing is available or running that this node could run. */
const drained = Effect.fnUntraced(function* (workers: ReadonlyArray<string>) {
  const jobs = yield* Jobs
  const names = (yield* Queues).names()
  const left = { worker: workers, queue: names, state: ["available", "executing"] } as const
  if (workers.length === 0 || names.length === 0) return
  while ((yield* jobs.list({ ...left, limit: 1 })).length > 0) yield* Effect.sleep("250 millis")
})
