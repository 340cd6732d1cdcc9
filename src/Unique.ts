/**
 * What makes two jobs the same job: a key over chosen parts, and the states in which it is held.
 *
 * The key is the SHA-256 of a length-prefixed encoding, so no two different choices share one, and nothing of the args
 * can be read from it.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { shown } from "./internal/names.ts"
import { strayOption } from "./internal/options.ts"
import { type JobState, states as allStates } from "./JobRow.ts"
import { InvalidUnique } from "./ShigotoError.ts"

/**
 * A part of a job that its key is made of; `args.` is followed by a path into the encoded args.
 *
 * @category models
 */
export type UniqueKey<Encoded = unknown> =
  | "worker"
  | "queue"
  | "args"
  | (Encoded extends object
      ? `args.${keyof Encoded & string}` | `args.${keyof Encoded & string}.${string}`
      : `args.${string}`)

/**
 * A field of the waiting job that a later enqueue may replace.
 *
 * @category models
 */
export type ReplaceField = "args" | "priority" | "maxAttempts" | "runAt" | "tags" | "meta"

/**
 * The states of a job that has not started.
 *
 * @category models
 */
export type WaitingState = "scheduled" | "blocked" | "available" | "retryable"

/**
 * How a job is unique.
 *
 * @category models
 */
export interface UniqueOptions<Encoded = unknown, Args = unknown> {
  /**
   * What the key is made of: `worker`, `queue`, `args`, or paths into the encoded args such as `args.project`. Defaults to the
   * worker and all args.
   */
  readonly keys?: ReadonlyArray<UniqueKey<Encoded>> | undefined
  /** In which states a job holds its key. Defaults to those before its end. */
  readonly states?: ReadonlyArray<JobState> | undefined
  /** How long after its insertion a job holds its key at most; sliding, not in buckets. Defaults to as long as it is in one of the states. */
  readonly period?: Duration.Input | undefined
  /** What a later enqueue replaces in a job that waits, in all waiting states or by state. Defaults to nothing. */
  readonly replace?:
    | ReadonlyArray<ReplaceField>
    | { readonly [State in WaitingState]?: ReadonlyArray<ReplaceField> }
    | undefined
  /** Delays a job until its enqueues have paused. Defaults to no delay. Not together with `replace`, `period` or a delay. */
  readonly debounce?: DebounceOptions<Args> | undefined
}

/**
 * How the enqueues of a key are gathered into one run.
 *
 * @category models
 */
export interface DebounceOptions<Args = unknown> {
  /** How long the enqueues must pause before the job runs. */
  readonly wait: Duration.Input
  /** How long after the first enqueue it runs at the latest. Defaults to no limit. */
  readonly maxWait?: Duration.Input | undefined
  /** Runs at the first enqueue and swallows the others until they have paused. Defaults to false. */
  readonly leading?: boolean | undefined
  /** Which args the job runs with: the last, the first, or what a function makes of both. Defaults to `replace`. */
  readonly args?: "replace" | "keep" | ((waiting: Args, incoming: Args) => Args) | undefined
}

/**
 * Checked options, in the form that is stored.
 *
 * @category models
 */
export interface UniqueRule {
  readonly keys: ReadonlyArray<string>
  /** A bit for each state, in the order of a job's life. */
  readonly states: number
  readonly periodMillis: number | undefined
  readonly replace: { readonly [State in WaitingState]?: ReadonlyArray<ReplaceField> }
  readonly debounce:
    | {
        readonly waitMillis: number
        readonly maxWaitMillis: number | undefined
        readonly leading: boolean
        readonly args: "replace" | "keep" | "merge"
      }
    | undefined
}

/**
 * The states that hold a key by default: all those before a job's end.
 *
 * @category constants
 */
export const defaultStates: ReadonlyArray<JobState> = ["scheduled", "blocked", "available", "executing", "retryable"]

/**
 * The bits of states, in the order of a job's life.
 *
 * @category rules
 */
export const stateBits = (states: ReadonlyArray<JobState>): number =>
  states.reduce((bits, state) => bits | (1 << allStates.indexOf(state)), 0)

/**
 * Checks options and brings them into the form that is stored.
 *
 * @category rules
 */
export const check = (
  options: UniqueOptions,
  index: { readonly index?: number } = {}
): Result.Result<UniqueRule, InvalidUnique> => {
  const refuse = (field: string, value: unknown, why: string) =>
    Result.fail(
      new InvalidUnique({
        field,
        value: shown(value),
        message: `unique.${field} cannot be ${shown(value)}: ${why}.`,
        ...index
      })
    )
  const { debounce, period, replace } = options
  const stray = strayOption(options, ["keys", "states", "period", "replace", "debounce"])
  if (stray !== undefined) return refuse(stray.name, options[stray.name as keyof UniqueOptions], stray.why) // its own
  const keys: ReadonlyArray<string> = options.keys ?? ["worker", "args"]
  const wrong = keys.find((key) => !/^(worker|queue|args|args\.[^.]+(\.[^.]+)*)$/.test(key))
  if (keys.length === 0 || wrong !== undefined) {
    return refuse("keys", wrong ?? keys, "a key is worker, queue, args, or a path such as args.to")
  }
  const states = options.states ?? defaultStates
  const unknown = states.find((state) => !allStates.includes(state))
  if (unknown !== undefined) return refuse("states", unknown, `the states are ${allStates.join(", ")}`)
  if (!states.some((state) => state === "scheduled" || state === "available")) {
    return refuse("states", states, "a new job is scheduled or available, so one of these must be among them")
  }
  const periodMillis = period === undefined ? undefined : millisOf(period)
  if (periodMillis !== undefined && !isWait(periodMillis)) {
    return refuse("period", period, "it must be a duration above zero, up to 100 years")
  }
  const byState = Array.isArray(replace) ? forAllWaiting(replace) : ((replace ?? {}) as UniqueRule["replace"]) // checked below
  for (const [state, fields] of Object.entries(byState)) {
    if (!waiting.has(state)) return refuse("replace", state, "only a job that waits can be replaced")
    const field = fields?.find((name) => !replaceable.includes(name))
    if (field !== undefined) return refuse("replace", field, `the fields are ${replaceable.join(", ")}`)
  }
  if (debounce === undefined) {
    return Result.succeed({ keys, states: stateBits(states), periodMillis, replace: byState, debounce: undefined })
  }
  if (replace !== undefined || period !== undefined) {
    return refuse("debounce", debounce.wait, "it does not go together with replace or period")
  }
  const misspelt = strayOption(debounce, ["wait", "maxWait", "leading", "args"])
  if (misspelt !== undefined) return refuse("debounce", misspelt.name, misspelt.why)
  const waitMillis = millisOf(debounce.wait)
  const maxWaitMillis = debounce.maxWait === undefined ? undefined : millisOf(debounce.maxWait)
  if (!isWait(waitMillis)) return refuse("debounce.wait", debounce.wait, "it must be a duration above zero")
  if (maxWaitMillis !== undefined && !(isWait(maxWaitMillis) && maxWaitMillis >= waitMillis)) {
    return refuse("debounce.maxWait", debounce.maxWait, "it must be a duration, and no shorter than wait")
  }
  const leading = debounce.leading === true
  return Result.succeed({
    keys,
    // A leading job swallows later enqueues also after its end, until they have paused.
    states: leading ? stateBits(allStates) : stateBits(states),
    periodMillis: leading ? waitMillis : undefined,
    replace: {},
    debounce: {
      waitMillis,
      maxWaitMillis,
      leading,
      args: typeof debounce.args === "function" ? "merge" : (debounce.args ?? "replace")
    }
  })
}

/**
 * The text whose SHA-256 is a job's key; fails with the path that is not in the args.
 *
 * **Details**
 *
 * Each part is written with its length before it, and JSON in one canonical form: object keys sorted, numbers as
 * JavaScript writes them. So `1` and `1.0` are one value and `"1"` is another; texts that differ only in their Unicode
 * normal form are different.
 *
 * @category rules
 */
export const keyText = (
  rule: UniqueRule,
  job: { readonly worker: string; readonly queue: string; readonly args: unknown }
): Result.Result<string, string> => {
  const parts = ["1"]
  for (const key of rule.keys) {
    const value = key === "worker" ? job.worker : key === "queue" ? job.queue : at(job.args, key.split(".").slice(1))
    if (value === undefined) return Result.fail(key)
    parts.push(key, canonical(value))
  }
  return Result.succeed(parts.map((part) => `${part.length}:${part}`).join(""))
}

// internal

const waiting: ReadonlySet<string> = new Set<WaitingState>(["scheduled", "blocked", "available", "retryable"])
const replaceable: ReadonlyArray<ReplaceField> = ["args", "priority", "maxAttempts", "runAt", "tags", "meta"]

const forAllWaiting = (fields: ReadonlyArray<ReplaceField>): UniqueRule["replace"] => ({
  scheduled: fields,
  blocked: fields,
  available: fields,
  retryable: fields
})

const millisOf = (input: Duration.Input): number =>
  Option.match(Duration.fromInput(input), { onNone: () => Number.NaN, onSome: Duration.toMillis })

const isWait = (millis: number): boolean => millis > 0 && millis <= 100 * 365.25 * 24 * 3_600_000

const at = (value: unknown, path: ReadonlyArray<string>): unknown =>
  path.reduce<unknown>(
    (inner, name) =>
      typeof inner === "object" && inner !== null && Object.hasOwn(inner, name)
        ? (inner as Record<string, unknown>)[name] // asked for a key
        : undefined,
    value
  )

const canonical = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null"
  const entries = Object.entries(value).filter(([, item]) => item !== undefined)
  return `{${entries
    .toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`)
    .join(",")}}`
}
