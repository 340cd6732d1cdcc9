/**
 * The edge between values and columns: whatever may quote a user's data is encrypted on its way in and read on its way
 * out, here and nowhere else.
 *
 * Without a cipher values pass as they are, at the cost of one look at each.
 */
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Hex from "effect/encoding/Hex"
import * as Result from "effect/Result"
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
      : Effect.map(
          sealText({ cipher }, job.args, argsOf(ids[i] as JobId, job.worker), job.encrypted ?? cipher.byDefault), // one for each
          (args) => ({ ...job, args })
        )
  )
}

/** Whether what is stored for a job is encrypted. */
export const seals = ({ cipher }: Sealing, job: Pick<NewJob, "encrypted">): boolean =>
  cipher !== undefined && (job.encrypted ?? cipher.byDefault)

/** Whether anything that its row holds is encrypted, the job included that runs in its place. */
export const sealsRow = (db: Sealing, job: NewJob): boolean =>
  seals(db, job) || (typeof job.onExpire === "object" && seals(db, job.onExpire.run))

/** A JSON text as it is stored; in the clear where that is asked for, or there is no cipher. */
export const sealText = ({ cipher }: Sealing, text: string, place: Place, encrypted = true): Effect.Effect<string> =>
  cipher === undefined || !encrypted ? Effect.succeed(escaped(text)) : cipher.seal(text, place)

/** Whether values in the clear are refused, by what their job's definition says of it. */
export const refusesClear = ({ cipher }: Sealing, encrypted: boolean | undefined): boolean =>
  (encrypted ?? cipher?.byDefault ?? false) && cipher?.allowPlaintext !== true

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
                unique: { ...job.unique, text } as never // text alone changes
              })) // text alone changes
      )

/** Outcomes as they are stored; the reason of a cancel as JSON text. */
export const sealOutcomes = <S extends Ended>(db: Db, settlements: ReadonlyArray<S>): Effect.Effect<ReadonlyArray<S>> =>
  settlements.every((settlement) => isAsStored(db, settlement))
    ? Effect.succeed(settlements)
    : Effect.forEach(settlements, (settlement) =>
        isAsStored(db, settlement)
          ? Effect.succeed(settlement)
          : Effect.map(
              sealOutcome(settlement.encrypted === false ? {} : db, settlement.id, settlement.outcome),
              (outcome) => ({ ...settlement, outcome })
            )
      )

/** A stored value: what it says, or a mark in its place where it cannot be read. `strict` refuses what is in the clear. */
export const open = ({ cipher }: Sealing, value: unknown, place: Place, strict: boolean): Effect.Effect<unknown> => {
  const content = envelopeOf(value)
  if (content === undefined) {
    return strict && value !== undefined
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

/**
 * The args of a job to come as JSON text, or as they are stored where they cannot be read.
 *
 * A job that is made of what is in the clear is in the clear: its worker decides whether it runs.
 */
export const openText = (
  db: Db,
  text: string,
  place: Place
): Effect.Effect<{
  readonly args: string
  readonly encrypted?: boolean | undefined
  readonly unreadable?: Encrypted
}> => {
  if (!looksMarked(text) && db.cipher === undefined) return Effect.succeed({ args: text })
  const stored: unknown = JSON.parse(text)
  const encrypted = envelopeOf(stored) !== undefined ? true : db.cipher?.allowPlaintext === true ? undefined : false
  return Effect.map(open(db, stored, place, false), (value) =>
    value instanceof Encrypted
      ? { args: text, encrypted, unreadable: value }
      : { args: JSON.stringify(value), encrypted }
  )
}

/** What becomes of a job that expires, as it is stored: its fallback's args are bound to its own row. */
export const sealExpiry = (db: Db, { onExpire }: NewJob, id: JobId | undefined): Effect.Effect<string | null> =>
  onExpire === undefined || onExpire === "cancel"
    ? Effect.succeed(onExpire === undefined ? null : JSON.stringify(onExpire))
    : Effect.map(sealText(db, onExpire.run.args, fallbackOf(id ?? 0), seals(db, onExpire.run)), (args) =>
        JSON.stringify({ ...onExpire.run, args })
      )

/** The job that runs instead of one that has expired. */
export const openExpiry = (db: Db, id: JobId, fallback: NewJob): Effect.Effect<NewJob> =>
  Effect.map(openText(db, fallback.args, fallbackOf(id)), ({ args, encrypted, unreadable }) => ({
    ...revived(fallback),
    args,
    encrypted,
    sealed: unreadable !== undefined
  }))

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

/** The place of the args of the job that runs instead of one that has expired. */
export const fallbackOf = (id: number): Place => ({ field: "fallback", of: id })

/** The place of a job's args. */
export const argsOf = (id: JobId, worker: string): Place => ({ field: "args", of: id, worker })

/** The place of a failure. */
export const errorOf = (id: JobId, attempt: number): Place => ({ field: "error", of: `${id}/${attempt}` })

/** The place of the reason of a cancel. */
export const reasonOf = (id: JobId): Place => ({ field: "reason", of: id })

/** The JSON text of why a job is cancelled, as it is stored: it may quote anything. */
export const sealReason = (db: Sealing, id: JobId, reason: string | undefined): Effect.Effect<string | undefined> =>
  reason === undefined ? Effect.undefined : sealText(db, JSON.stringify(reason), reasonOf(id))

/** Why a job was cancelled, as people read it. */
export const openReason = (db: Sealing, id: JobId, stored: unknown): Effect.Effect<string | undefined> =>
  stored === null || stored === undefined
    ? Effect.undefined
    : Effect.map(open(db, stored, reasonOf(id), false), (reason) =>
        reason instanceof Encrypted ? "(encrypted)" : typeof reason === "string" ? reason : JSON.stringify(reason)
      )

/** A job as people read it. */
export const openRow = (db: Db, row: JobRow): Effect.Effect<JobRow> =>
  Effect.gen(function* () {
    const args = yield* open(db, row.args, argsOf(row.id, row.worker), false)
    const result = yield* open(db, row.result, { field: "result", of: row.id }, false)
    const cancelReason = yield* openReason(db, row.id, row.cancelReason)
    return { ...row, args, result, errors: yield* openFailures(db, row.id, row.errors), cancelReason }
  })

/**
 * A job as its handler reads it: with a mark for its args where any part of it cannot be read.
 *
 * `wanted` is what its definition says of its encryption. What it leaves is encrypted if it came so, or should have.
 */
export const openClaimed = <Job extends Readable>(
  db: Db,
  job: Job,
  wanted: boolean | undefined
): Effect.Effect<Job & { readonly encrypted: boolean }> =>
  Effect.gen(function* () {
    const strict = refusesClear(db, wanted)
    const args = yield* open(db, job.args, argsOf(job.id, job.worker), strict)
    const dependencies = yield* Effect.forEach(job.dependencies, (dependency) =>
      Effect.gen(function* () {
        const { failure, id } = dependency
        // Nothing is stored for nothing, so that cannot be encrypted either.
        const result =
          dependency.result === null ? null : yield* open(db, dependency.result, { field: "result", of: id }, strict)
        const [last] = failure === undefined ? [] : yield* openFailures(db, id, [failure])
        return { ...dependency, result, failure: last, reason: yield* openReason(db, id, dependency.reason) }
      })
    )
    const flow =
      job.flow === undefined
        ? undefined
        : {
            ...job.flow,
            input: yield* open(db, job.flow.input ?? undefined, { field: "input", of: job.batch ?? 0 }, strict)
          }
    const unreadable = [args, flow?.input, ...dependencies.map(({ result }) => result)].find(
      (value) => value instanceof Encrypted
    )
    return {
      ...job,
      encrypted: envelopeOf(job.args) !== undefined || seals(db, { encrypted: wanted }),
      args: unreadable ?? args,
      dependencies,
      flow: flow === undefined ? undefined : { ...flow, input: flow.input ?? null },
      errors: yield* openFailures(db, job.id, job.errors)
    }
  })

/** Whether a claimed job takes no opening: nothing of it is encrypted, and nothing has to be. */
export const isPlain = (db: Db, job: Readable, wanted: boolean | undefined): boolean =>
  !refusesClear(db, wanted) &&
  isUnmarked(job.args) &&
  job.errors.every(({ sealed }: AttemptFailure & Sealed) => sealed === undefined) &&
  (job.flow === undefined || isUnmarked(job.flow.input)) &&
  job.dependencies.every(
    ({ failure, reason, result }) =>
      isUnmarked(reason) && isUnmarked(result) && (failure as Sealed | undefined)?.sealed === undefined // as stored
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
        Effect.map(
          open(db, sealed, errorOf(id, failure.attempt), false),
          (text) => (text instanceof Encrypted || text === undefined ? failure : { ...failure, ...(text as object) }) // as it was sealed
        )
      )

/** A job to come that was stored as JSON, with its instants. */
export const revived = (job: NewJob): NewJob => ({
  ...job,
  due: "at" in job.due ? { at: new Date(job.due.at) } : job.due,
  ...(job.expires !== undefined && "at" in job.expires && { expires: { at: new Date(job.expires.at) } })
})

/** A failure whose message and cause are encrypted; what finds and counts failures stays as it is. */
export const sealFailure = (
  { cipher }: Sealing,
  id: JobId,
  { cause, error, message, quotes, ...rest }: AttemptFailure
): Effect.Effect<AttemptFailure & Sealed> => {
  const text = {
    message,
    ...(error !== undefined && { error }),
    ...(cause !== undefined && { cause }),
    ...(quotes !== undefined && { quotes })
  }
  return cipher === undefined
    ? Effect.succeed({ ...rest, ...text })
    : Effect.zipWith(
        cipher.seal(JSON.stringify(text), errorOf(id, rest.attempt)),
        // Else what a message says could be found out by trying.
        cipher.blind(rest.fingerprint ?? ""),
        (sealed, blinded) => ({
          ...rest,
          ...(rest.fingerprint !== undefined && { fingerprint: shortened(blinded) }),
          message: "(encrypted)",
          sealed: JSON.parse(sealed) as unknown // nothing is known of it
        })
      )
}

/** The problem of a value in the clear. */
export const inTheClear = (place: Place): DecryptionError =>
  new DecryptionError({
    reason: "Plaintext",
    message: `The ${place.field} of ${place.of} are not encrypted: set allowPlaintext while old jobs, or jobs enqueued in SQL, are to run, or define the job with encrypted: false.`
  })

// internal

/** Whether a stored value is what it says. */
const isUnmarked = (value: unknown): boolean => envelopeOf(value) === undefined && unescaped(value) === value

/** The length of a fingerprint, of which no more is told than of its message. */
const shortened = (base64: string): string =>
  Hex.encode(Result.getOrElse(Base64.decode(base64), () => new Uint8Array())).slice(0, 14)

/** What encrypts, if anything does. */
type Sealing = Pick<Db, "cipher">

/** The part of a settlement that may be encrypted; one that says nothing of it is. */
interface Ended {
  readonly id: JobId
  readonly outcome: Outcome
  readonly encrypted?: boolean | undefined
}

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
  /** The envelope of the message, the error, the cause and what they quote. */
  readonly sealed?: unknown
}

/** Whether an outcome is stored in the words that it has. */
const isAsStored = ({ cipher }: Sealing, { encrypted, outcome }: Ended): boolean => {
  const isSealed = cipher !== undefined && encrypted !== false
  switch (outcome._tag) {
    case "Completed":
      return outcome.result === undefined || (!isSealed && !looksMarked(outcome.result))
    case "Retryable":
    case "Discarded":
      return !isSealed
    case "Cancelled":
      return outcome.reason === undefined && (outcome.failure === undefined || !isSealed)
    default:
      return true
  }
}

const sealOutcome = (db: Sealing, id: JobId, outcome: Outcome): Effect.Effect<Outcome> => {
  switch (outcome._tag) {
    case "Completed":
      return outcome.result === undefined
        ? Effect.succeed(outcome)
        : Effect.map(sealText(db, outcome.result, { field: "result", of: id }), (result) => ({ ...outcome, result }))
    case "Retryable":
    case "Discarded":
      return Effect.map(sealFailure(db, id, outcome.failure), (failure) => ({ ...outcome, failure }))
    case "Cancelled":
      return Effect.gen(function* () {
        const failure = outcome.failure === undefined ? undefined : yield* sealFailure(db, id, outcome.failure)
        const reason = yield* sealReason(db, id, outcome.reason)
        return { ...outcome, ...(failure !== undefined && { failure }), ...(reason !== undefined && { reason }) }
      })
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
