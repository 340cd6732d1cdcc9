/**
 * A job's life as a pure function: what each verb of the store must answer, and what the jobs must be afterwards.
 *
 * No SQL, no clock, no randomness: time comes in, and so does what only the database decides (ids, the jitter of a
 * wait). Leases, epochs and attempts are kept here by the rules and not by the code under test.
 */
import type { Outcome } from "../../src/Outcome.ts"

export interface ModelJob {
  readonly id: number
  readonly worker: string
  readonly queue: string
  readonly state: string
  readonly priority: number
  readonly attempt: number
  readonly maxAttempts: number
  readonly epoch: number
  readonly runAt: number
  readonly claimedBy: number | null
  readonly claimedAt: number
  readonly cancelRequested: boolean
  readonly snoozes: number
  readonly failures: ReadonlyArray<{ readonly tag: string; readonly attempt: number }>
  readonly finishedAt: number | null
}

export interface Model {
  readonly now: number
  readonly jobs: ReadonlyMap<number, ModelJob>
  /** When each lease that has a row runs out. */
  readonly leases: ReadonlyMap<number, number>
  /** How long finished jobs of a state are kept, in milliseconds. */
  readonly retention: Readonly<Record<string, number>>
}

export const ttl = 30_000

export const empty = (now: number, retention: Model["retention"]): Model => ({
  now,
  jobs: new Map(),
  leases: new Map(),
  retention
})

const put = (model: Model, ...jobs: ReadonlyArray<ModelJob>): Model => ({
  ...model,
  jobs: new Map([...model.jobs, ...jobs.map((job) => [job.id, job] as const)])
})

const all = (model: Model, holds: (job: ModelJob) => boolean): ReadonlyArray<ModelJob> =>
  [...model.jobs.values()].filter(holds).toSorted((a, b) => a.id - b.id)

const isWaiting = (job: ModelJob): boolean => job.state === "scheduled" || job.state === "retryable"

const isLive = (model: Model, node: number): boolean => (model.leases.get(node) ?? -Infinity) > model.now

/** Ends a job: into the history, or into nothing where its state keeps none. */
const finish = (model: Model, job: ModelJob, state: string): Model => {
  if ((model.retention[state] ?? 0) > 0) return put(model, { ...job, state, finishedAt: model.now })
  const jobs = new Map(model.jobs)
  jobs.delete(job.id)
  return { ...model, jobs }
}

const fail = (job: ModelJob, tag: string): ModelJob => ({
  ...job,
  failures: [...job.failures, { tag, attempt: job.attempt }].slice(-20)
})

/** T1 */
export const enqueue = (
  model: Model,
  job: Pick<ModelJob, "id" | "worker" | "queue" | "priority" | "maxAttempts"> & { readonly delay: number }
): Model => {
  const { delay, ...given } = job
  return put(model, {
    ...given,
    state: delay > 0 ? "scheduled" : "available",
    attempt: 0,
    epoch: 0,
    runAt: model.now + delay,
    claimedBy: null,
    claimedAt: 0,
    cancelRequested: false,
    snoozes: 0,
    failures: [],
    finishedAt: null
  })
}

/** T2, and what a look sees besides. */
export const promote = (model: Model, node: number, queues: ReadonlyArray<string>) => {
  const due = all(model, (job) => isWaiting(job) && job.runAt <= model.now)
  const after = put(model, ...due.map((job) => ({ ...job, state: "available" })))
  const next = Math.min(...all(after, isWaiting).map((job) => job.runAt))
  return [
    after,
    {
      promoted: due.length,
      ready: queues.filter((queue) => all(after, (job) => job.queue === queue && job.state === "available").length > 0),
      nextDueMillis: next === Infinity ? undefined : next - model.now,
      nextExpiryMillis: undefined,
      deadNodes: [...model.leases.values()].some((expiresAt) => expiresAt <= model.now),
      strays: false,
      blocked: false,
      cancels:
        all(model, (job) => job.state === "executing" && job.claimedBy === node && job.cancelRequested).length > 0
    }
  ] as const
}

/** T3 */
export const claim = (
  model: Model,
  request: {
    readonly node: number
    readonly queue: string
    readonly limit: number
    readonly workers: ReadonlyArray<{ readonly name: string; readonly room: number }>
  }
) => {
  const room = new Map(request.workers.map((worker) => [worker.name, worker.room]))
  const candidates = isLive(model, request.node)
    ? all(model, (job) => job.queue === request.queue && job.state === "available" && room.has(job.worker))
        .toSorted((a, b) => b.priority - a.priority || a.runAt - b.runAt || a.id - b.id)
        .slice(0, request.limit)
    : []
  const taken = candidates.filter((job) => {
    const left = room.get(job.worker) ?? 0
    room.set(job.worker, left - 1)
    return left > 0
  })
  const claimed = taken.map((job) => ({
    ...job,
    state: "executing",
    claimedBy: request.node,
    claimedAt: model.now,
    attempt: job.attempt + 1,
    epoch: job.epoch + 1
  }))
  return [
    put(model, ...claimed),
    claimed.map(({ attempt, epoch, id, maxAttempts }) => ({ id, epoch, attempt, maxAttempts }))
  ] as const
}

/** T4 to T8 and T12: one settlement, fenced by its epoch. */
export const settle = (model: Model, id: number, epoch: number, outcome: Outcome) => {
  const job = model.jobs.get(id)
  if (job === undefined) return [model, { _tag: "Gone", held: false }] as const
  if (job.epoch !== epoch) return [model, { _tag: "Lost" }] as const
  if (job.state !== "executing") return [model, { _tag: "Accepted", state: job.state }] as const
  const ended = "failure" in outcome && outcome.failure !== undefined ? fail(job, outcome.failure.tag) : job
  const done = (state: string) => [finish(model, ended, state), { _tag: "Accepted", state }] as const
  const back = (change: Partial<ModelJob> & { readonly state: string }) =>
    job.cancelRequested
      ? done("cancelled")
      : ([put(model, { ...ended, claimedBy: null, ...change }), { _tag: "Accepted", state: change.state }] as const)
  switch (outcome._tag) {
    case "Completed":
      return done("completed")
    case "Discarded":
      return done("discarded")
    case "Cancelled":
      return done("cancelled")
    case "Retryable":
      return back({ state: "retryable", runAt: model.now + outcome.delayMillis })
    case "Snoozed":
      return back({
        state: "scheduled",
        runAt: model.now + outcome.delayMillis,
        attempt: job.attempt - 1,
        snoozes: job.snoozes + 1
      })
    case "Released":
      return back({ state: "available", attempt: job.attempt - 1 })
    case "Forked":
      return back({ state: "blocked", attempt: job.attempt - 1 })
  }
}

/** T9; the wait after a second crash in a row has a jitter, so it comes in and is checked. */
export const rescue = (model: Model, runAtOf: (id: number) => number | undefined) => {
  const lost = all(model, (job) => job.state === "executing" && !isLive(model, job.claimedBy ?? 0))
  const rescued: Array<{ readonly id: number; readonly attempt: number; readonly state: string }> = []
  let after = model
  for (const job of lost) {
    const last = job.failures.at(-1)
    const failed = { ...fail(job, "LeaseExpired"), epoch: job.epoch + 1 }
    if (job.cancelRequested || job.attempt >= job.maxAttempts) {
      const state = job.cancelRequested ? "cancelled" : "discarded"
      after = finish(after, failed, state)
      rescued.push({ id: job.id, attempt: job.attempt, state })
      continue
    }
    const again = last?.tag === "LeaseExpired" && last.attempt === job.attempt - 1
    const shortest = model.now + Math.min(job.attempt ** 4 + 1, 1800) * 1000
    const longest = model.now + Math.min(job.attempt ** 4 + 30, 1800) * 1000
    const chosen = runAtOf(job.id) ?? Number.NaN
    const runAt = !again ? model.now : chosen >= shortest && chosen <= longest ? chosen : shortest
    after = put(after, { ...failed, state: "retryable", claimedBy: null, runAt })
    rescued.push({ id: job.id, attempt: job.attempt, state: "retryable" })
  }
  return [after, rescued] as const
}

/** T10, and T12 for those that are to be cancelled */
export const reconcile = (model: Model, node: number, known: ReadonlyArray<number>, grace: number) => {
  const lost = all(
    model,
    (job) =>
      job.state === "executing" &&
      job.claimedBy === node &&
      !known.includes(job.id) &&
      job.claimedAt <= model.now - grace
  )
  let after = model
  for (const job of lost) {
    const given = { ...job, claimedBy: null, epoch: job.epoch + 1, attempt: job.attempt - 1 }
    after = job.cancelRequested ? finish(after, given, "cancelled") : put(after, { ...given, state: "available" })
  }
  return [after, lost.map((job) => job.id), lost.filter((job) => job.cancelRequested).map((job) => job.id)] as const
}

/** T11 and T13 */
export const cancel = (model: Model, id: number) => {
  const job = model.jobs.get(id)
  if (job === undefined) return [model, { _tag: "NotFound" }] as const
  if (job.finishedAt !== null) return [model, { _tag: "Finished", state: job.state }] as const
  if (job.state === "executing") {
    return [put(model, { ...job, cancelRequested: true }), { _tag: "Requested", node: job.claimedBy }] as const
  }
  return [
    finish(model, job, "cancelled"),
    { _tag: "Cancelled", worker: job.worker, queue: job.queue, attempt: job.attempt }
  ] as const
}

/** T14 */
export const retry = (model: Model, id: number) => {
  const job = model.jobs.get(id)
  if (job === undefined) return [model, { _tag: "NotFound" }] as const
  if (job.finishedAt === null && !isWaiting(job)) return [model, { _tag: "Unchanged", state: job.state }] as const
  return [
    put(model, {
      ...job,
      state: "available",
      runAt: model.now,
      epoch: job.epoch + 1,
      maxAttempts: Math.max(job.maxAttempts, job.attempt + 1),
      claimedBy: null,
      cancelRequested: false,
      finishedAt: null
    }),
    { _tag: "Retried", worker: job.worker, queue: job.queue }
  ] as const
}

/**
 * T15: what is younger than its retention stays, what is older by the width of a partition is gone, and in between
 * the database may do either.
 */
export const prune = (model: Model, state: string, isThere: (id: number) => boolean): Model => {
  const retention = model.retention[state] ?? 0
  const gone = all(model, (job) => {
    if (job.state !== state || job.finishedAt === null) return false
    const age = model.now - job.finishedAt
    return age > retention && (age >= retention + 3_600_000 || !isThere(job.id))
  })
  const jobs = new Map(model.jobs)
  for (const job of gone) jobs.delete(job.id)
  return { ...model, jobs }
}

/** A renewal; false where the lease has run out. */
export const renew = (model: Model, node: number) => {
  const live = isLive(model, node)
  return [live ? lease(model, node) : model, live] as const
}

export const lease = (model: Model, node: number): Model => ({
  ...model,
  leases: new Map([...model.leases, [node, model.now + ttl]])
})

/** Removes dead leases that hold nothing. */
export const sweep = (model: Model): Model => ({
  ...model,
  leases: new Map(
    [...model.leases].filter(
      ([node]) =>
        isLive(model, node) || all(model, (job) => job.state === "executing" && job.claimedBy === node).length > 0
    )
  )
})

export const retire = (model: Model, node: number): Model =>
  sweep(isLive(model, node) ? { ...model, leases: new Map([...model.leases, [node, model.now]]) } : model)
