/** From what a producer says to what the database stores: every option is checked before anything is sent. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import {
  ArgsTooLarge,
  type CompositionError,
  type EnqueueError,
  InvalidArgs,
  InvalidDependencies,
  InvalidEncrypted,
  InvalidMaxAttempts,
  InvalidMeta,
  InvalidOption,
  InvalidPartitionKey,
  InvalidPriority,
  InvalidQueueName,
  InvalidRunAt,
  InvalidTags,
  InvalidWorkerName,
  type StorageFailure
} from "../ShigotoError.ts"
import { declaration, type Dependencies } from "../Dependency.ts"
import {
  type DeadlineOptions,
  deadlineOf,
  firstInstant,
  lastInstant,
  maxDelayMillis,
  safeDuration
} from "./deadline.ts"
import { describe, sanitize, stringify } from "./json.ts"
import type { BatchId, JobId } from "../JobRow.ts"
import { nameProblem, shown } from "./names.ts"
import { strayOption } from "./options.ts"
import { type NewEdge, type NewJob, type OnFailure, onFailures } from "./newJob.ts"

/** What a producer may say of a job beside its args. */
export interface Options extends DeadlineOptions {
  readonly queue?: string | undefined
  readonly priority?: number | undefined
  readonly delay?: Duration.Input | undefined
  readonly runAt?: DateTime.DateTime | Date | undefined
  readonly maxAttempts?: number | undefined
  readonly tags?: ReadonlyArray<string> | undefined
  readonly meta?: Readonly<Record<string, unknown>> | undefined
  readonly partitionKey?: string | undefined
  readonly dependsOn?: DependsOnAll | undefined
  readonly batch?: BatchId | undefined
  readonly encrypted?: boolean | undefined
}

/** A job to wait for: its id, or its id with what happens when it fails. */
export type DependsOn = JobId | { readonly id: JobId; readonly onFailure?: OnFailure | undefined }

/** Jobs to wait for, in a list, or by what the waiting job calls them. */
export type DependsOnAll = ReadonlyArray<DependsOn> | { readonly [name: string]: DependsOn | ReadonlyArray<DependsOn> }

/** What keeps a job from being enqueued before the database is asked. */
export type Refusal = Exclude<EnqueueError, StorageFailure | CompositionError>

/** The most tags of a job. */
export const maxTags = 100

/** The most jobs that one waits for. */
export const maxDependencies = 10_000

/** The largest meta, in bytes. */
export const maxMetaBytes = 64 * 1024

/** The range of a smallint. */
export const minPriority = -32_768
export const maxPriority = 32_767
export const maxMaxAttempts = 32_767

/** Says what is wrong with a worker's name, if anything. */
export const checkWorker = (name: string): InvalidWorkerName | undefined => {
  const problem = nameProblem(name)
  return problem === undefined
    ? undefined
    : new InvalidWorkerName({
        value: shown(name),
        message: `${shown(name)} cannot name a job: ${problem}. Use 1 to 128 bytes without control characters.`
      })
}

/** Says what is wrong with what a definition reads of others, if anything. */
export const checkDependencies = (worker: string, needs: Dependencies): InvalidDependencies | undefined => {
  for (const name of Object.keys(needs)) {
    const problem = nameProblem(name)
    const need: unknown = needs[name]
    const { job, onFailure } = (isDeclared(need) ? declaration(needs, name) : undefined) ?? {}
    const why =
      problem ??
      (typeof job?.name === "string" ? undefined : "it names no definition") ??
      (onFailure !== undefined && onFailures.includes(onFailure)
        ? undefined
        : `the policies are ${onFailures.join(", ")}`)
    if (why === undefined) continue
    return new InvalidDependencies({
      value: shown(name),
      message: `"${worker}" cannot read the result of ${shown(name)}: ${why}.`
    })
  }
  return undefined
}

/** Refuses what a producer says of a job where there is no such option. */
export const strayRefusal = (
  worker: string,
  given: object,
  index: { readonly index?: number } = {}
): InvalidOption | undefined => {
  const stray = strayOption(given, optionNames)
  return stray === undefined
    ? undefined
    : new InvalidOption({
        worker,
        option: stray.name,
        message: `A job of "${worker}" cannot be given ${shown(stray.name)}: ${stray.why}.`,
        ...index
      })
}

/** Checks the options that a definition and a call have in common. */
export const checkOptions = (options: Options, index: { readonly index?: number } = {}): Refusal | undefined => {
  const { encrypted, maxAttempts, partitionKey, priority, queue, tags } = options
  if (queue !== undefined) {
    const problem = nameProblem(queue)
    if (problem !== undefined) {
      return new InvalidQueueName({
        value: shown(queue),
        message: `${shown(queue)} cannot name a queue: ${problem}.`,
        ...index
      })
    }
  }
  if (priority !== undefined && !isIntegerIn(priority, minPriority, maxPriority)) {
    return new InvalidPriority({
      value: shown(priority),
      min: minPriority,
      max: maxPriority,
      message: `A priority is an integer from ${minPriority} to ${maxPriority}, not ${shown(priority)}.`,
      ...index
    })
  }
  if (maxAttempts !== undefined && !isIntegerIn(maxAttempts, 1, maxMaxAttempts)) {
    return new InvalidMaxAttempts({
      value: shown(maxAttempts),
      min: 1,
      max: maxMaxAttempts,
      message: `maxAttempts is an integer from 1 to ${maxMaxAttempts}, not ${shown(maxAttempts)}.`,
      ...index
    })
  }
  if (partitionKey !== undefined) {
    const problem = nameProblem(partitionKey)
    if (problem !== undefined) {
      return new InvalidPartitionKey({
        value: shown(partitionKey),
        message: `${shown(partitionKey)} cannot be a partition key: ${problem}.`,
        ...index
      })
    }
  }
  if (encrypted !== undefined && typeof encrypted !== "boolean") {
    return new InvalidEncrypted({
      value: shown(encrypted),
      message: `encrypted is true or false, not ${shown(encrypted)}.`,
      ...index
    })
  }
  return checkTags(tags, index)
}

/** The instant that a producer asks for, or why it is none. */
export const dueOf = (
  options: Options,
  index: { readonly index?: number } = {}
): Result.Result<NewJob["due"], InvalidRunAt> => {
  const { delay, runAt } = options
  const refuse = (value: unknown, why: string) =>
    Result.fail(
      new InvalidRunAt({ value: shown(value), message: `A job cannot run at ${shown(value)}: ${why}.`, ...index })
    )
  if (delay !== undefined && runAt !== undefined) return refuse(runAt, "give delay or runAt, not both")
  if (delay !== undefined) {
    const millis = Option.match(safeDuration(delay), { onNone: () => Number.NaN, onSome: Duration.toMillis })
    return millis >= 0 && millis <= maxDelayMillis
      ? Result.succeed({ delayMillis: millis })
      : refuse(delay, "a delay is a duration from zero to 1,000 years")
  }
  if (runAt === undefined) return Result.succeed({ delayMillis: 0 })
  const at = runAt instanceof Date ? runAt : DateTime.isDateTime(runAt) ? DateTime.toDateUtc(runAt) : undefined
  if (at === undefined || Number.isNaN(at.getTime())) return refuse(runAt, "it is no valid Date or DateTime")
  return at.getTime() >= firstInstant && at.getTime() <= lastInstant
    ? Result.succeed({ at })
    : refuse(at.getTime(), "it lies outside the years 1 to 9999")
}

/** Everything about a job but its args, checked and in the form that is stored; many jobs may share it. */
export type Shape = Omit<NewJob, "args">

/** Checks what a producer says beside the args and brings it into the form that is stored. */
export const shapeOf = (
  worker: string,
  options: Options & {
    readonly queue: string
    readonly priority: number
    readonly maxAttempts: number
    /** What its definition reads of the jobs that it waits for. */
    readonly needs?: Dependencies | undefined
    /** Whether its definition says that its jobs are in the clear. */
    readonly mayBeClear?: boolean | undefined
  },
  limits: { readonly encrypts: boolean },
  index: { readonly index?: number } = {}
): Result.Result<Shape, Refusal> => {
  const refusal = checkOptions(options, index)
  if (refusal !== undefined) return Result.fail(refusal)
  const exposed = encryptedProblem(worker, options, limits)
  if (exposed !== undefined) {
    return Result.fail(new InvalidEncrypted({ value: shown(options.encrypted), message: exposed, ...index }))
  }
  const due = dueOf(options, index)
  if (Result.isFailure(due)) return Result.fail(due.failure)
  const deadline = deadlineOf(options, index)
  if (Result.isFailure(deadline)) return Result.fail(deadline.failure)
  const dependsOn = edgesOf(options.dependsOn, options.needs ?? {}, index)
  if (Result.isFailure(dependsOn)) return Result.fail(dependsOn.failure)
  const meta = encodeMeta(options.meta, index)
  if (Result.isFailure(meta)) return Result.fail(meta.failure)
  return Result.succeed({
    worker,
    queue: options.queue,
    priority: options.priority,
    maxAttempts: options.maxAttempts,
    due: due.success,
    ...deadline.success,
    tags: options.tags === undefined || options.tags.length === 0 ? undefined : options.tags,
    meta: meta.success,
    partitionKey: options.partitionKey,
    dependsOn: dependsOn.success,
    batch: options.batch,
    ...(options.encrypted !== undefined && { encrypted: options.encrypted })
  })
}

/** Checks the args' encoding and makes it the text that is stored. */
export const textOf = (
  worker: string,
  encoded: unknown,
  maxArgsBytes: number,
  index: { readonly index?: number } = {}
): Result.Result<string, Refusal> => {
  const args = stringify(encoded, maxArgsBytes)
  if (Result.isFailure(args)) {
    const { path, reason } = args.failure
    return Result.fail(
      new InvalidArgs({
        worker,
        path,
        reason,
        message: `The args of "${worker}" cannot be stored: ${reason} at ${path}.`,
        ...index
      })
    )
  }
  if (args.success._tag === "TooLarge") {
    return Result.fail(
      new ArgsTooLarge({
        worker,
        size: args.success.size,
        limit: maxArgsBytes,
        message: `The args of "${worker}" have at least ${args.success.size} bytes, the limit is ${maxArgsBytes}. Store the bulk elsewhere and pass a reference, or raise ShigotoConfig.maxArgsBytes.`,
        ...index
      })
    )
  }
  return Result.succeed(args.success.text)
}

/** Brings a job whose args are computed later into the form that is stored. */
export const prepareComputed = (
  definition: {
    readonly name: string
    readonly options: Parameters<typeof withDefaults>[1]
  },
  options: Options,
  encrypts: boolean
): Result.Result<NewJob, Refusal> => {
  const stray = strayRefusal(definition.name, options)
  if (stray !== undefined) return Result.fail(stray)
  return Result.map(shapeOf(definition.name, withDefaults(options, definition.options), { encrypts }), (shape) => ({
    ...shape,
    args: "null",
    computed: true
  }))
}

/** What a producer says, with the definition's own values where it says nothing. */
export const withDefaults = (
  given: Options,
  definition: {
    readonly [K in "queue" | "priority" | "maxAttempts" | "tags" | "expiresIn" | "onExpire" | "encrypted"]?: Options[K]
  }
) => ({
  ...given,
  queue: given.queue ?? definition.queue ?? "default",
  priority: given.priority ?? definition.priority ?? 0,
  maxAttempts: given.maxAttempts ?? definition.maxAttempts ?? 20,
  tags: given.tags ?? definition.tags,
  expiresIn: given.expiresIn ?? (given.startBefore === undefined ? definition.expiresIn : undefined),
  // A definition says what becomes of those that expire, not that all do.
  onExpire:
    (given.expiresIn ?? given.startBefore ?? definition.expiresIn) === undefined
      ? given.onExpire
      : (given.onExpire ?? definition.onExpire),
  encrypted: given.encrypted ?? definition.encrypted,
  mayBeClear: definition.encrypted === false
})

/** How a definition tells the partition key of its jobs. */
export type PartitionKey = ((args: unknown) => string | undefined) | undefined

/** The partition key of a job: the producer's, else by the definition's function, which may have thrown. */
export const partitionKeyOf = (
  given: Options,
  ofArgs: PartitionKey,
  args: unknown,
  index: { readonly index?: number }
): Effect.Effect<string | undefined, InvalidPartitionKey> =>
  given.partitionKey !== undefined || ofArgs === undefined
    ? Effect.succeed(given.partitionKey)
    : Effect.try({
        try: () => ofArgs(args),
        catch: (error) =>
          new InvalidPartitionKey({
            value: "a function that threw",
            message: `The partitionKey of these args cannot be told: ${sanitize(describe(error), 500)}`,
            ...index
          })
      })

// internal

const optionNames: ReadonlyArray<string> = Object.keys({
  queue: true,
  priority: true,
  delay: true,
  runAt: true,
  maxAttempts: true,
  tags: true,
  meta: true,
  partitionKey: true,
  dependsOn: true,
  batch: true,
  encrypted: true,
  unique: true,
  expiresIn: true,
  startBefore: true,
  onExpire: true
} satisfies Record<keyof Options | "unique", true>)

/** Why a job may not be stored as its producer says: a worker would refuse it, or nothing encrypts it. */
const encryptedProblem = (
  worker: string,
  {
    encrypted,
    mayBeClear = false
  }: { readonly encrypted?: boolean | undefined; readonly mayBeClear?: boolean | undefined },
  { encrypts }: { readonly encrypts: boolean }
): string | undefined =>
  encrypted === true && !encrypts
    ? `"${worker}" is to be encrypted and there is no cipher: provide Cipher.layerAesGcm under the layer that enqueues.`
    : encrypted === false && !mayBeClear
      ? `Only its definition says that "${worker}" may be in the clear, since its worker refuses it otherwise: define it with encrypted: false.`
      : undefined

const isDeclared = (need: unknown): boolean =>
  Array.isArray(need) ? need.length === 1 && isDeclared(need[0]) : typeof need === "object" && need !== null

const isIntegerIn = (value: unknown, min: number, max: number): boolean =>
  typeof value === "number" && Number.isInteger(value) && value >= min && value <= max

const checkTags = (
  tags: ReadonlyArray<string> | undefined,
  index: { readonly index?: number }
): InvalidTags | undefined => {
  if (tags === undefined) return undefined
  const refuse = (value: unknown, why: string) =>
    new InvalidTags({ value: shown(value), message: `The tags cannot be stored: ${why}.`, ...index })
  if (!Array.isArray(tags)) return refuse(tags, "they are no array")
  if (tags.length > maxTags) return refuse(tags.length, `there are ${tags.length}, the limit is ${maxTags}`)
  for (const [i, tag] of tags.entries()) {
    const problem = nameProblem(tag)
    if (problem !== undefined) return refuse(tag, `tag ${i}, ${shown(tag)}: ${problem}`)
    if (tags.indexOf(tag) !== i) return refuse(tag, `${shown(tag)} is there twice`)
  }
  return undefined
}

const edgesOf = (
  dependsOn: DependsOnAll | undefined,
  needs: Dependencies,
  index: { readonly index?: number }
): Result.Result<ReadonlyArray<NewEdge> | undefined, InvalidDependencies> => {
  const refuse = (value: unknown, why: string) =>
    Result.fail(
      new InvalidDependencies({
        value: shown(value),
        message: `A job cannot depend on ${shown(value)}: ${why}.`,
        ...index
      })
    )
  if (dependsOn === undefined) return Result.succeed(undefined)
  if (typeof dependsOn !== "object" || dependsOn === null) return refuse(dependsOn, "it is no array of job ids")
  const wanted: Array<{ readonly one: unknown; readonly name?: string }> = []
  if (Array.isArray(dependsOn)) wanted.push(...dependsOn.map((one: unknown) => ({ one })))
  else {
    for (const [name, given] of Object.entries(dependsOn)) {
      const problem = nameProblem(name)
      if (problem !== undefined) return refuse(name, problem)
      if (Array.isArray(given)) for (const one of given as ReadonlyArray<unknown>) wanted.push({ one, name }) // not read yet
      else if (given !== undefined) wanted.push({ one: given, name })
    }
  }
  if (wanted.length > maxDependencies) {
    return refuse(wanted.length, `there are ${wanted.length} jobs, the limit is ${maxDependencies}`)
  }
  const seen = new Set<JobId>()
  const edges: Array<NewEdge> = []
  for (const { name, one } of wanted) {
    const need = name === undefined ? undefined : declaration(needs, name)
    const usual = need?.onFailure ?? "cancel"
    const { id, onFailure = usual } = (typeof one === "object" && one !== null ? one : { id: one }) as {
      // perhaps
      readonly id: JobId // checked next
      readonly onFailure?: OnFailure
    }
    if (!(Number.isSafeInteger(id) && id > 0)) return refuse(id, "it is no job id")
    if (!onFailures.includes(onFailure)) return refuse(onFailure, `the policies are ${onFailures.join(", ")}`)
    if (onFailure === "run" && need !== undefined && usual !== "run") {
      return refuse(onFailure, `the job reads the result of "${name}", so it cannot run without one`)
    }
    if (seen.has(id)) return refuse(id, "it is there twice")
    seen.add(id)
    edges.push({ parent: { id }, onFailure, ...(name !== undefined && { name }) })
  }
  return Result.succeed(edges.length === 0 ? undefined : edges)
}

/** Says which of the jobs that a definition reads a new job names none for, or more than one. */
export const missingEdges = (
  worker: string,
  needs: Dependencies,
  edges: ReadonlyArray<NewEdge>,
  index: { readonly index?: number }
): InvalidDependencies | undefined => {
  for (const name of Object.keys(needs)) {
    const count = edges.filter((edge) => edge.name === name).length
    if (declaration(needs, name)?.many === true || count === 1) continue
    return new InvalidDependencies({
      value: name,
      message: `"${worker}" reads the result of "${name}": enqueue it with dependsOn: { ${name}: id }, the id of one job.`,
      ...index
    })
  }
  return undefined
}

const encodeMeta = (
  meta: unknown,
  index: { readonly index?: number }
): Result.Result<string | undefined, InvalidMeta> => {
  if (meta === undefined) return Result.succeed(undefined)
  const refuse = (path: string, why: string) =>
    Result.fail(new InvalidMeta({ path, message: `The meta cannot be stored: ${why} at ${path}.`, ...index }))
  if (typeof meta !== "object" || meta === null || Array.isArray(meta)) return refuse("$", "it is no object")
  const text = stringify(meta, maxMetaBytes)
  if (Result.isFailure(text)) return refuse(text.failure.path, text.failure.reason)
  return text.success._tag === "TooLarge"
    ? refuse("$", `it has more than ${maxMetaBytes} bytes`)
    : Result.succeed(text.success.text)
}
