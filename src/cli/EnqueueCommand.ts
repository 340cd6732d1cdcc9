/**
 * `shigoto enqueue`: one job, with args that its schema has checked: the application's own where a config module has it,
 * else the JSON Schema that a node has told the database.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as JsonSchema from "effect/JsonSchema"
import * as Schema from "effect/Schema"
import { fromJsonSchemaDocument } from "effect/SchemaRepresentation"
import { readFileSync } from "node:fs"
import * as Job from "../Job.ts"
import type { JobId, JobRow } from "../JobRow.ts"
import { type EnqueueResult, Jobs } from "../Jobs.ts"
import { InvalidArgs } from "../ShigotoError.ts"
import type { Definition } from "./Config.ts"
import { connectedWith } from "./internal/connection.ts"
import { exitCodes, Failed, NotFound, Unwell, UsageError } from "./internal/exit.ts"
import { Loaded } from "./internal/load.ts"
import { readDuration } from "./internal/moment.ts"
import { dryRun } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"
import * as shapes from "./internal/shapes.ts"
import { json, line } from "./internal/text.ts"

/**
 * The command.
 *
 * @category commands
 */
export const enqueue = Command.make(
  "enqueue",
  {
    worker: Argument.String("worker").pipe(Argument.withDescription("The name of the job's definition")),
    args: Argument.String("args").pipe(
      Argument.withDescription("The args as JSON, @file, or - for standard input; {} if left out"),
      Argument.optional
    ),
    queue: Flag.String("queue").pipe(Flag.withDescription("Defaults to the definition's"), Flag.optional),
    priority: Flag.Int("priority").pipe(Flag.withDescription("Higher runs first"), Flag.optional),
    delay: Flag.String("in").pipe(
      Flag.withMetavar("<duration>"),
      Flag.withDescription("How long it waits before it may run, such as 5m"),
      Flag.optional
    ),
    at: Flag.Date("at").pipe(
      Flag.withMetavar("<instant>"),
      Flag.withDescription("When it may run, such as 2026-01-31T08:00:00Z"),
      Flag.optional
    ),
    maxAttempts: Flag.Int("max-attempts").pipe(Flag.withDescription("Defaults to the definition's"), Flag.optional),
    tags: Flag.String("tag").pipe(
      Flag.withDescription("A name to find it by; may be given several times"),
      Flag.atLeast(0)
    ),
    partitionKey: Flag.String("partition-key").pipe(
      Flag.withDescription("The tenant or resource that it belongs to"),
      Flag.optional
    ),
    wait: Flag.Boolean("wait").pipe(
      Flag.withDescription("Wait for its end and show its result; exit code 1 unless it completes"),
      Flag.withDefault(false)
    ),
    untyped: Flag.Boolean("untyped").pipe(
      Flag.withDescription("Take the args as they are, unchecked, also for a job that nobody knows"),
      Flag.withDefault(false)
    ),
    dryRun
  },
  Effect.fnUntraced(function* (input) {
    const screen = yield* Screen
    const { dryRun, untyped, wait, worker } = input
    const config = yield* (yield* Loaded).found
    const encoded = yield* readArgs(Option.getOrElse(input.args, () => "{}"))
    const delay = Option.isSome(input.delay) ? yield* readDuration("in", input.delay.value) : undefined
    const options: Options = {
      queue: Option.getOrUndefined(input.queue),
      priority: Option.getOrUndefined(input.priority),
      delay,
      runAt: Option.getOrUndefined(input.at),
      maxAttempts: Option.getOrUndefined(input.maxAttempts),
      tags: input.tags.length === 0 ? undefined : input.tags,
      partitionKey: Option.getOrUndefined(input.partitionKey)
    }
    const job = yield* connectedWith(
      config,
      Effect.gen(function* () {
        const definition = untyped ? undefined : config?.jobs?.find((one) => one.name === worker)
        const published = untyped || definition !== undefined ? undefined : yield* (yield* Jobs).argsSchema(worker)
        const isChecked = definition !== undefined || published !== undefined
        if (!isChecked && !untyped) {
          if (config?.jobs !== undefined) return yield* unknownJob(config.jobs, worker)
          yield* screen.say(
            "The args are not checked: neither a config module nor a node says what they are.",
            "yellow"
          )
        }
        const args =
          definition !== undefined
            ? yield* check(worker, definition.args, encoded)
            : published !== undefined
              ? yield* checkPublished(worker, published, encoded)
              : encoded
        if (dryRun) {
          yield* screen.show(
            { worker, checked: isChecked, dryRun },
            screen.say(
              `Would enqueue ${worker}${isChecked ? "; its args are as its schema wants them" : ""}${delay === undefined ? "" : `, in ${Duration.format(delay)}`}.`
            )
          )
          return undefined
        }
        const result = yield* insert(definition, worker, args, options)
        if (!wait) {
          yield* told(result)
          return undefined
        }
        yield* screen.say(`#${result.id} ${result._tag.toLowerCase()}, waiting for its end …`, "dim")
        return yield* end(result.id)
      })
    )
    if (job === undefined) return
    const carried = screen.redact(job)
    yield* screen.show(
      shapes.jobDetail(job, carried),
      job.state === "completed"
        ? screen.print(json(carried.result ?? null, 2))
        : screen.print(`#${job.id} ${job.state}${reasonOf(carried)}`)
    )
    if (job.state !== "completed") return yield* new Unwell({ code: exitCodes.failure })
  })
).pipe(
  Command.withDescription(
    "Enqueue one job; its args are checked by the config module's definition, else by what a node told of them"
  ),
  Command.withExamples([
    { command: `shigoto enqueue send-email '{"to":"ada@example.com"}' --in 5m`, description: "Later" },
    { command: "shigoto enqueue report @args.json --wait", description: "From a file, and wait for the result" }
  ])
)

// internal

type Options = Omit<Job.EnqueueOptions, "unique">

const readArgs = Effect.fnUntraced(function* (given: string) {
  const text = yield* Effect.try({
    try: () =>
      given === "-" ? readFileSync(0, "utf8") : given.startsWith("@") ? readFileSync(given.slice(1), "utf8") : given,
    catch: (error) => new UsageError({ message: `The args cannot be read: ${(error as Error).message}` })
  })
  return yield* Effect.try({
    try: () => JSON.parse(text) as unknown, // nothing is known of it
    catch: (error) =>
      new UsageError({
        message: `The args are no JSON: ${(error as Error).message}`,
        hint: `Quote them for your shell: '{"to":"ada@example.com"}'`
      })
  })
})

const unknownJob = (known: ReadonlyArray<Definition>, worker: string): NotFound =>
  new NotFound({
    message: `Neither the config module nor a node knows the job ${JSON.stringify(worker)}; the module has ${known.map((one) => one.name).join(", ")}. With --untyped it is enqueued all the same.`
  })

/** Decodes args as a worker would, so that what it could not read is refused here. */
const check = (worker: string, schema: Schema.Top, encoded: unknown): Effect.Effect<unknown, InvalidArgs> =>
  // The services of the schema are none: the type of the config module says so of `enqueue`.
  (Schema.decodeUnknownEffect(Schema.toCodecJson(schema))(encoded) as Effect.Effect<unknown, Schema.SchemaError>).pipe(
    // needs no services
    Effect.mapError(
      ({ message }) =>
        new InvalidArgs({
          worker,
          path: "",
          reason: message,
          message: `The args do not match the schema of "${worker}": ${message}`
        })
    )
  )

/** Checks args by the JSON Schema that a node has told; they stay as they are. Patterns could take for ever: left out. */
const checkPublished = Effect.fnUntraced(function* (worker: string, published: unknown, encoded: unknown) {
  const schema = yield* Effect.try({
    try: () => fromJsonSchemaDocument(published as JsonSchema.Document<"draft-2020-12">, { patterns: "ignore" }), // as it was told
    catch: (error) =>
      new Failed({
        message: `The schema that a node told of "${worker}" cannot be read: ${(error as Error).message}`,
        hint: "--untyped takes the args as they are."
      })
  })
  yield* check(worker, schema, encoded)
  return encoded
})

const insert = (definition: Definition | undefined, worker: string, args: unknown, options: Options) =>
  definition === undefined
    ? Effect.suspend(() => Job.make(worker, { args: Schema.Json }).enqueue(args as Schema.Json, options)) // was parsed
    : definition.enqueue(args as never, options as never) // what its own schema has decoded, and options of any job

const told = Effect.fnUntraced(function* (result: EnqueueResult) {
  const screen = yield* Screen
  const { id, job } = result
  yield* screen.show(
    { id: id as number, outcome: result._tag, state: job.state, queue: job.queue, runAt: shapes.instant(job.runAt) }, // without its brand
    screen.print(`#${id} ${result._tag === "Inserted" ? job.state : result._tag} in ${line(job.queue)}`)
  )
})

const end = Effect.fnUntraced(function* (id: JobId) {
  const jobs = yield* Jobs
  while (true) {
    const job = yield* jobs.get(id)
    if (job.finishedAt !== undefined) return job
    yield* Effect.sleep("250 millis")
  }
})

const reasonOf = (carried: Pick<JobRow, "errors" | "cancelReason">): string => {
  const last = carried.errors.at(-1)
  const text = carried.cancelReason ?? (last === undefined ? undefined : `${last.tag}: ${last.message}`)
  return text === undefined ? "" : `: ${line(text)}`
}
