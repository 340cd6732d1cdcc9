/** The jobs of the workload: every way in which a handler may end, and a record of each start and end. */
import { Clock, Effect, Exit, Layer, Schedule, Schema } from "effect"
import { Batch, CronJob, Job } from "effect-shigoto"
import { Truth } from "../truth.ts"

const kinds = [
  "ok",
  "fail",
  "defect",
  "snooze",
  "discard",
  "cancel",
  "hang",
  "spin",
  "exit",
  "bigstack",
  "nul",
  "fan"
] as const

export type Kind = (typeof kinds)[number]

const args = {
  key: Schema.String,
  kind: Schema.Literals(kinds),
  /** How long it works, in milliseconds. */
  millis: Schema.Int,
  /** How often it does what its kind says before it succeeds. */
  times: Schema.Int,
  /** What it is the only live one of, where it is one of a kind. */
  slot: Schema.String,
  /** To compare what arrives with what was sent. */
  text: Schema.String,
  numbers: Schema.Array(Schema.Finite),
  nested: Schema.Record(Schema.String, Schema.NullOr(Schema.String))
}

const options = { args, success: Schema.String, error: Schema.String, queue: "fast", timeout: "1 minute" } as const

export const Work = Job.make("work", options)
/** Its attempts time out. */
export const Hang = Job.make("hang", { ...options, timeout: "1 second" })
/** Only the new version of the deploy has its worker. */
export const Late = Job.make("late", options)

/** One live job for each slot. */
export const Once = Job.make("once", { ...options, unique: { keys: ["worker", "args.slot"] } })
/** What jobs that fan out add, each known by its parent's key and a number. */
export const Part = Job.make("part", options)
/** A few at once, over all nodes. */
export const Bounded = Job.make("bounded", options)
/** So many starts a second, over all nodes. */
export const Metered = Job.make("metered", options)
/** One tenant of many. */
export const Tenant = Job.make("tenant", options)
/** One job each second. */
export const Tick = Job.make("tick", options)

export type Args = (typeof Work)["args"]["Type"]

/** The code that a poisonous job ends its process with. */
export const poisonExit = 77

/** The args of each tick's job. */
export const tickArgs: Args = {
  key: "tick",
  kind: "ok",
  millis: 5,
  times: 1,
  slot: "",
  text: "",
  numbers: [],
  nested: {}
}

/** A batch whose callback is one more job, known by its key. */
export const batchOf = (key: string) =>
  Batch.make("chaos", { onFinished: Work.prepare({ ...tickArgs, key: callbackKey(key) }) })

export const callbackKey = (key: string): string => `${key}-callback`

/** How many of the bounded run at once, and how many of the metered start in a second. */
export const limits = { running: 3, starts: 10 }

const schedule = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("1 second")])

export const layer = (process: string, version: 1 | 2, poison: boolean) => {
  const handle = handler(process, poison)
  const retry = { retry: schedule, onDiscard: hearing(process) }
  return Layer.mergeAll(
    Work.toLayer(handle, retry),
    Hang.toLayer(handle, { ...retry, concurrency: 2 }),
    Once.toLayer(handle, retry),
    Part.toLayer(handle, retry),
    Tick.toLayer(handle, retry),
    Bounded.toLayer(handle, { ...retry, globalConcurrency: limits.running }),
    Metered.toLayer(handle, { ...retry, rateLimit: { limit: limits.starts, window: "1 second" } }),
    Tenant.toLayer(handle, retry),
    CronJob.make({
      name: "tick",
      cron: "* * * * * *",
      job: Tick,
      args: tickArgs,
      catchUp: CronJob.all({ max: 1000, window: "1 hour" })
    }),
    version === 2 ? Late.toLayer(handle, retry) : Layer.empty
  )
}

// internal

interface Attempt {
  readonly id: number
  readonly worker: string
  readonly epoch: number
  readonly attempt: number
  readonly snoozes: number
}

const handler = (process: string, poison: boolean) => (args: Args, job: Attempt) =>
  // What has a start on record has an end: an interruption between the two would look like a handler that runs on.
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const truth = yield* Truth
      const ref = { process, job: job.id, epoch: job.epoch, attempt: job.attempt, worker: job.worker, key: args.key }
      const began = new Date().toISOString()
      yield* truth.write("handler", { ...ref, kind: "start", args: JSON.stringify(args), began })
      // The end is on record before the library hears of it: an outcome in the database without one was made up.
      return yield* Effect.onExit(restore(work(args, job, poison)), (exit) =>
        truth.write("handler", {
          ...ref,
          kind: "end",
          outcome: args.kind === "nul" && Exit.isSuccess(exit) ? "unstorable" : outcomeOf(exit)
        })
      )
    })
  )

/** The worker hears that a job was given up, and which end of it that was. */
const hearing =
  (process: string) =>
  ({ job }: { readonly job: Attempt }) =>
    Effect.flatMap(Truth, (truth) =>
      truth.write("handler", {
        process,
        kind: "told",
        job: job.id,
        epoch: job.epoch,
        attempt: job.attempt,
        worker: job.worker
      })
    )

const work = (args: Args, job: Attempt, poison: boolean): Effect.Effect<string, string | Job.Signal, Job.CurrentJob> =>
  Effect.gen(function* () {
    const again = job.attempt <= args.times
    if (args.kind === "spin") {
      if (poison) yield* spin(args.millis)
      return "spun"
    }
    yield* Effect.sleep(args.millis)
    switch (args.kind) {
      case "fail":
        return again ? yield* Effect.fail(`attempt ${job.attempt} fails`) : "in the end"
      case "defect":
        return again ? yield* Effect.die(new Error(`attempt ${job.attempt} dies`)) : "in the end"
      case "snooze":
        return job.snoozes < args.times ? yield* Job.snooze("200 millis") : "awake"
      case "discard":
        return yield* Job.discard("not worth it")
      case "cancel":
        return yield* Job.cancel("called off by itself")
      case "hang":
        return again ? yield* Effect.never : "woke up"
      case "exit":
        if (poison && again) globalThis.process.exit(poisonExit)
        return "survived"
      case "bigstack": {
        if (!again) return "in the end"
        const error = new Error("deep")
        error.stack = "at somewhere (file.ts:1:1)\n".repeat(200_000)
        return yield* Effect.die(error)
      }
      case "fan": {
        // Some mind how their parts end, some do not.
        const onFailure = args.times === 1 ? "run" : "cancel"
        const parts = yield* Job.fanOut("parts", Part, partsOf(args), { onFailure, queue: "fast" })
        return `gathered ${parts.length}`
      }
      case "nul":
        return "nobody can store \u0000 this"
      default:
        return `done by ${job.attempt}`
    }
  })

const partsOf = (args: Args): ReadonlyArray<Args> =>
  Array.from({ length: 1 + ((args.key.length + args.millis) % 7) }, (_, n) => ({
    ...args,
    key: `${args.key}/${n}`,
    kind: n % 4 === 3 ? "fail" : "ok",
    times: 1,
    slot: ""
  }))

/** Blocks the event loop, as a handler does that computes. */
const spin = (millis: number) =>
  Effect.map(Clock.Clock, (clock) => {
    const until = clock.monotonicTimeNanosUnsafe() + BigInt(millis) * 1_000_000n
    while (clock.monotonicTimeNanosUnsafe() < until);
  })

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "ok"
  const [reason] = exit.cause.reasons
  if (reason?._tag === "Interrupt") return "interrupted"
  if (reason?._tag === "Die") return "defect"
  const error = reason?.error
  return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag).toLowerCase() : "fail"
}
