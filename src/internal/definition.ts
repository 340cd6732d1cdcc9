/** What may be wrong with a definition or a worker before it runs. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import { maxConcurrency } from "../ShigotoConfig.ts"
import { InvalidConcurrency, InvalidConfig, type InvalidUnique } from "../ShigotoError.ts"
import { check, type UniqueOptions } from "../Unique.ts"
import type { Limit } from "../Limit.ts"
import type { LogLimits } from "./logSink.ts"
import { shown } from "./names.ts"
import { strayOption } from "./options.ts"
import { isSameRate } from "./rate.ts"

/** What is wrong with what a definition says of its jobs' keys and time, if anything. */
export const definitionProblem = (options: {
  readonly partitionKey?: unknown
  readonly timeout?: Duration.Input | undefined
  readonly unique?: UniqueOptions | undefined
}): InvalidConfig | InvalidUnique | undefined =>
  partitionProblem(options.partitionKey) ?? timeoutProblem(options.timeout) ?? uniqueProblem(options.unique)

/** Refuses an option of a definition, or of a worker, that there is not. */
export const strayProblem = (
  of: string,
  given: object,
  known: Readonly<Record<string, true>>
): InvalidConfig | undefined => {
  const stray = strayOption(given, Object.keys(known))
  return stray === undefined
    ? undefined
    : new InvalidConfig({
        field: stray.name,
        value: shown((given as Readonly<Record<string, unknown>>)[stray.name]), // it is one of its keys
        message: `${of} cannot be given ${shown(stray.name)}: ${stray.why}.`
      })
}

/** What is wrong with how logs are kept, if anything. */
export const captureProblem = (name: string, capture: boolean | LogLimits | undefined): InvalidConfig | undefined => {
  const { maxBytes = 1, maxLines = 1 } = typeof capture === "object" ? capture : {}
  const isLimit = (value: unknown): boolean => typeof value === "number" && Number.isInteger(value) && value >= 1
  return isLimit(maxBytes) && isLimit(maxLines)
    ? undefined
    : new InvalidConfig({
        field: "captureLogs",
        value: shown(capture),
        message: `captureLogs of the worker "${name}" cannot be ${shown(capture)}: maxLines and maxBytes are positive integers.`
      })
}

/** What is wrong with a handler, or with how its failures are retried, if anything. */
export const handlerProblem = (name: string, handler: unknown, retry: unknown): InvalidConfig | undefined => {
  const refuse = (field: string, value: unknown, why: string) =>
    new InvalidConfig({
      field,
      value: shown(value),
      message: `The ${field} of the worker "${name}" cannot be ${shown(value)}: ${why}.`
    })
  if (typeof handler !== "function") return refuse("handler", handler, "it must be a function of the args")
  return retry === undefined || Schedule.isSchedule(retry)
    ? undefined
    : refuse("retry", retry, 'it must be a Schedule, such as Schedule.exponential("1 second")')
}

/** What is wrong with a worker's concurrency, if anything. */
export const concurrencyProblem = (
  name: string,
  field: "concurrency" | "globalConcurrency",
  concurrency: number | undefined
): InvalidConcurrency | undefined =>
  concurrency === undefined || (Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= maxConcurrency)
    ? undefined
    : new InvalidConcurrency({
        field,
        value: shown(concurrency),
        min: 1,
        max: maxConcurrency,
        message: `The ${field} of the worker "${name}" is an integer from 1 to ${maxConcurrency}, not ${shown(concurrency)}.`
      })

/** Refuses a worker that says other things than others, or than queues, of a rate that they share by its name. */
export const rateClash = (worker: Rated, others: Iterable<Rated>): InvalidConfig | undefined => {
  const rate = worker.governed?.rate
  if (rate == null) return undefined
  // What a job takes of it may differ.
  const other = [...others].find(
    ({ governed }) => governed?.rate?.name === rate.name && !isSameRate(governed.rate, rate)
  )
  return other === undefined
    ? undefined
    : new InvalidConfig({
        field: "rateLimit",
        value: shown(rate.name),
        message: `"${worker.name}" and "${other.name}" say different things of the rate ${shown(rate.name)}, which they share: give both the same limit, or one of them another name.`
      })
}

// internal

interface Rated {
  readonly name: string
  readonly governed: { readonly rate: Limit<never> | undefined } | undefined
}

/** What is wrong with what makes its jobs unique, if anything. */
const uniqueProblem = (unique: UniqueOptions | undefined): InvalidUnique | undefined => {
  const checked = unique === undefined ? undefined : check(unique)
  return checked !== undefined && Result.isFailure(checked) ? checked.failure : undefined
}

/** What is wrong with what tells the partition key of its jobs, if anything. */
const partitionProblem = (partitionKey: unknown): InvalidConfig | undefined =>
  partitionKey === undefined || typeof partitionKey === "function"
    ? undefined
    : new InvalidConfig({
        field: "partitionKey",
        value: shown(partitionKey),
        message: `partitionKey of a definition cannot be ${shown(partitionKey)}: it must be a function of the args.`
      })

/** What is wrong with a timeout, if anything. */
const timeoutProblem = (timeout: Duration.Input | undefined): InvalidConfig | undefined => {
  if (timeout === undefined) return undefined
  const parsed = Duration.fromInput(timeout)
  return Option.isSome(parsed) && Duration.toMillis(parsed.value) > 0
    ? undefined
    : new InvalidConfig({
        field: "timeout",
        value: shown(timeout),
        message: `timeout cannot be ${shown(timeout)}: it must be a duration above zero, or Duration.infinity for no limit.`
      })
}
