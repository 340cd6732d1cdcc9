/**
 * The edge between values and columns: whatever may quote a user's data is encrypted on its way in and read on its way
 * out, here and nowhere else.
 *
 * Without a cipher values pass as they are, at the cost of one look at each.
 */
import * as Effect from "effect/Effect"
import type { AttemptFailure, BatchId, JobId, JobRow } from "../../JobRow.ts"
import type { Outcome } from "../../Outcome.ts"
import {
  DecryptionError,
  Encrypted,
  envelopeOf,
  escaped,
  keyIdOf,
  looksMarked,
  type Place,
  unescaped
} from "../envelope.ts"
import type { Dependency, NewJob } from "../newJob.ts"
import type { Db } from "./db.ts"

/** Jobs with their args as they are stored, under the ids that they will have. */
export const sealJobs = (
  { cipher }: Db,
  jobs: ReadonlyArray<NewJob>,
  ids: ReadonlyArray<JobId> | undefined
): Effect.Effect<ReadonlyArray<NewJob>> => {
  if (cipher === undefined || ids === undefined) {
    return Effect.succeed(
      jobs.some((job) => looksMarked(job.args))
        ? jobs.map((job) => (job.sealed === true ? job : { ...job, args: escaped(job.args) }))
        : jobs
    )
  }
  return Effect.forEach(jobs, (job, i) =>
    job.sealed === true
      ? Effect.succeed(job)
      : Effect.map(cipher.seal(job.args, argsOf(ids[i] as JobId, job.worker)), (args) => ({ ...job, args }))
  )
}

/** A JSON text as it is stored. */
export const sealText = ({ cipher }: Db, text: string, place: Place): Effect.Effect<string> =>
  cipher === undefined ? Effect.succeed(escaped(text)) : cipher.seal(text, place)

/** Jobs whose keys tell nothing about what they are made of. */
export const blindKeys = ({ cipher }: Db, jobs: ReadonlyArray<NewJob>): Effect.Effect<ReadonlyArray<NewJob>> =>
  cipher === undefined
    ? Effect.succeed(jobs)
    : Effect.forEach(
        jobs,
        (job) =>
          job.unique === undefined
            ? Effect.succeed(job)
            : Effect.map(cipher.blind(job.unique.text), (text) => ({
                ...job,
                unique: { ...job.unique, text } as never
              })) // text alone changes
      )

/** Outcomes as they are stored. */
export const sealOutcomes = <S extends { readonly id: JobId; readonly outcome: Outcome }>(
  db: Db,
  settlements: ReadonlyArray<S>
): Effect.Effect<ReadonlyArray<S>> =>
  db.cipher === undefined && !settlements.some(({ outcome }) => isMarkedResult(outcome))
    ? Effect.succeed(settlements)
    : Effect.forEach(settlements, (settlement) =>
        Effect.map(sealOutcome(db, settlement.id, settlement.outcome), (outcome) => ({ ...settlement, outcome }))
      )

/** A stored value: what it says, or a mark in its place where it cannot be read. `strict` refuses what is in the clear. */
export const open = ({ cipher }: Db, value: unknown, place: Place, strict: boolean): Effect.Effect<unknown> => {
  const content = envelopeOf(value)
  if (content === undefined) {
    return strict && value !== undefined && cipher !== undefined && !cipher.allowPlaintext
      ? Effect.succeed(new Encrypted({ keyId: undefined, problem: inTheClear(place) }))
      : Effect.succeed(unescaped(value))
  }
  const keyId = keyIdOf(content)
  return cipher === undefined
    ? Effect.succeed(new Encrypted({ keyId, problem: noCipher(place, keyId) }))
    : Effect.match(cipher.open(content, place), {
        onFailure: (problem) => new Encrypted({ keyId, problem }),
        onSuccess: (text): unknown => JSON.parse(text)
      })
}

/** The args of a job to come as JSON text, or as they are stored where they cannot be read. */
export const openText = (
  db: Db,
  text: string,
  place: Place
): Effect.Effect<{ readonly args: string; readonly unreadable?: Encrypted }> =>
  looksMarked(text) || db.cipher !== undefined
    ? Effect.map(open(db, JSON.parse(text), place, true), (value) =>
        value instanceof Encrypted ? { args: text, unreadable: value } : { args: JSON.stringify(value) }
      )
    : Effect.succeed({ args: text })

/**
 * The JSON text of a stored value that is to be encrypted anew, or a mark where it cannot be read; undefined where it
 * stands under the wanted key already, or under none and that is not asked for.
 */
export const openedText = (
  { cipher }: Db,
  value: unknown,
  place: Place,
  wanted: { readonly keyId: string; readonly plaintext: boolean }
): Effect.Effect<string | Encrypted | undefined> => {
  const content = envelopeOf(value)
  if (content === undefined) return Effect.succeed(wanted.plaintext ? JSON.stringify(unescaped(value)) : undefined)
  const keyId = keyIdOf(content)
  if (keyId === wanted.keyId) return Effect.succeed(undefined)
  return cipher === undefined
    ? Effect.succeed(new Encrypted({ keyId, problem: noCipher(place, keyId) }))
    : Effect.match(cipher.open(content, place), {
        onFailure: (problem): string | Encrypted => new Encrypted({ keyId, problem }),
        onSuccess: (text) => text
      })
}

/** The place of a job's args. */
export const argsOf = (id: JobId, worker: string): Place => ({ field: "args", of: id, worker })

/** The place of a failure. */
export const errorOf = (id: JobId, attempt: number): Place => ({ field: "error", of: `${id}/${attempt}` })

/** A job as people read it. */
export const openRow = (db: Db, row: JobRow): Effect.Effect<JobRow> =>
  Effect.gen(function* () {
    const args = yield* open(db, row.args, argsOf(row.id, row.worker), false)
    const result = yield* open(db, row.result, { field: "result", of: row.id }, false)
    return { ...row, args, result, errors: yield* openFailures(db, row.id, row.errors) }
  })

/** A job as its handler reads it: with a mark for its args where any part of it cannot be read. */
export const openClaimed = <Job extends Readable>(db: Db, job: Job): Effect.Effect<Job> =>
  Effect.gen(function* () {
    const args = yield* open(db, job.args, argsOf(job.id, job.worker), true)
    const dependencies = yield* Effect.forEach(job.dependencies, (dependency) =>
      Effect.gen(function* () {
        const { failure, id } = dependency
        // Nothing is stored for nothing, so that cannot be encrypted either.
        const result =
          dependency.result === null ? null : yield* open(db, dependency.result, { field: "result", of: id }, true)
        const [last] = failure === undefined ? [] : yield* openFailures(db, id, [failure])
        return { ...dependency, result, failure: last }
      })
    )
    const flow =
      job.flow === undefined
        ? undefined
        : {
            ...job.flow,
            input: yield* open(db, job.flow.input ?? undefined, { field: "input", of: job.batch ?? 0 }, true)
          }
    const unreadable = [args, flow?.input, ...dependencies.map(({ result }) => result)].find(
      (value) => value instanceof Encrypted
    )
    return {
      ...job,
      args: unreadable ?? args,
      dependencies,
      flow: flow === undefined ? undefined : { ...flow, input: flow.input ?? null },
      errors: yield* openFailures(db, job.id, job.errors)
    }
  })

/** Whether a claimed job takes no opening. */
export const isPlain = ({ cipher }: Db, job: Readable): boolean =>
  cipher === undefined &&
  [job.args, job.flow?.input, ...job.dependencies.map(({ result }) => result)].every(
    (value) => envelopeOf(value) === undefined && unescaped(value) === value
  )

/** The failures of a job, as far as they can be read. */
export const openFailures = (
  db: Db,
  id: JobId,
  failures: ReadonlyArray<AttemptFailure & Sealed>
): Effect.Effect<ReadonlyArray<AttemptFailure>> =>
  failures.every(({ sealed }) => sealed === undefined)
    ? Effect.succeed(failures)
    : Effect.forEach(failures, ({ sealed, ...failure }) =>
        Effect.map(open(db, sealed, errorOf(id, failure.attempt), false), (text) =>
          text instanceof Encrypted || text === undefined ? failure : { ...failure, ...(text as object) }
        )
      )

/** A failure whose message and cause are encrypted; what finds and counts failures stays as it is. */
export const sealFailure = (
  { cipher }: Db,
  id: JobId,
  { cause, error, message, ...rest }: AttemptFailure
): Effect.Effect<AttemptFailure & Sealed> => {
  const text = { message, ...(error !== undefined && { error }), ...(cause !== undefined && { cause }) }
  return cipher === undefined
    ? Effect.succeed({ ...rest, ...text })
    : Effect.map(cipher.seal(JSON.stringify(text), errorOf(id, rest.attempt)), (sealed) => ({
        ...rest,
        message: "(encrypted)",
        sealed: JSON.parse(sealed) as unknown
      }))
}

// internal

/** The parts of a claimed job that may be encrypted, and what they are bound to. */
interface Readable {
  readonly id: JobId
  readonly worker: string
  readonly args: unknown
  readonly errors: ReadonlyArray<AttemptFailure>
  readonly dependencies: ReadonlyArray<Dependency>
  readonly flow: { readonly input: unknown } | undefined
  readonly batch: BatchId | undefined
}

interface Sealed {
  /** The envelope of the message, the error and the cause. */
  readonly sealed?: unknown
}

const isMarkedResult = (outcome: Outcome): boolean =>
  outcome._tag === "Completed" && outcome.result !== undefined && looksMarked(outcome.result)

const sealOutcome = (db: Db, id: JobId, outcome: Outcome): Effect.Effect<Outcome> => {
  switch (outcome._tag) {
    case "Completed":
      return outcome.result === undefined
        ? Effect.succeed(outcome)
        : Effect.map(sealText(db, outcome.result, { field: "result", of: id }), (result) => ({ ...outcome, result }))
    case "Retryable":
    case "Discarded":
    case "Cancelled":
      return outcome.failure === undefined
        ? Effect.succeed(outcome)
        : Effect.map(sealFailure(db, id, outcome.failure), (failure) => ({ ...outcome, failure }))
    default:
      return Effect.succeed(outcome)
  }
}

const noCipher = (place: Place, keyId: string): DecryptionError =>
  new DecryptionError({
    reason: "NoCipher",
    keyId,
    message: `The ${place.field} of ${place.of} are encrypted with the key "${keyId}", and this node has no Cipher: provide Cipher.layerAesGcm under ShigotoLive.`
  })

const inTheClear = (place: Place): DecryptionError =>
  new DecryptionError({
    reason: "Plaintext",
    message: `The ${place.field} of ${place.of} are not encrypted: set allowPlaintext while old jobs, or jobs enqueued in SQL, are to run.`
  })
