/**
 * Why a job is not running: every reason that holds, in the words of the claim itself.
 *
 * The database is asked, for each node, whether the statement that claims would take the job; the rest tells why not.
 * So `runnable` means exactly that: the next claim of a node with a free slot takes it, or those that come before it.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import { aheadLimit, type Findings } from "./internal/sql/explain.ts"
import type { JobId, JobRow, JobState } from "./JobRow.ts"

/**
 * One reason why a job is not running.
 *
 * **Details**
 *
 * `Ahead`, `Busy` and `WorkerBusy` keep a runnable job waiting for its turn; all others keep it from being claimed.
 *
 * @category models
 */
export type Reason =
  /** It ended. */
  | { readonly _tag: "Finished"; readonly state: JobState }
  /** It is running: the opposite of a reason. */
  | { readonly _tag: "Running"; readonly node: string; readonly cancelRequested: boolean }
  /** The node that ran it is silent; another one will take it over. */
  | { readonly _tag: "NodeLost"; readonly node: string }
  /** Its time has not come: a delay, a snooze, or the wait after a failed attempt. */
  | { readonly _tag: "NotDue"; readonly inMillis: number; readonly after: "delay" | "failure" }
  /** Its deadline has passed, or will have before it is due: it never starts, and the next look of a node ends it. */
  | { readonly _tag: "Expired"; readonly startBefore: Date }
  /** Other nodes run the jobs of its queue everywhere, and those that have its worker do not: they leave it alone. */
  | { readonly _tag: "NotBroadcast"; readonly queue: string; readonly nodes: ReadonlyArray<string> }
  /** Each node runs a copy of it, so many so far; those that start in this time do, too. */
  | { readonly _tag: "Broadcast"; readonly copies: number; readonly endsInMillis: number }
  /** Its time has come, and the next look of a node makes it available. */
  | { readonly _tag: "DueNow" }
  /** It waits for jobs that have not ended; at most 100 are named. For none, the next look of a node lets it go. */
  | { readonly _tag: "Blocked"; readonly by: ReadonlyArray<BlockingJob>; readonly total: number }
  /** A job that it waited for failed, and its policy is to hold; retry that one, or this. */
  | { readonly _tag: "Held"; readonly by: ReadonlyArray<BlockingJob>; readonly total: number }
  /** Its attempts are used up. */
  | { readonly _tag: "NoAttemptLeft"; readonly attempt: number; readonly maxAttempts: number }
  /** No node is alive. */
  | { readonly _tag: "NoNode" }
  /** No live node runs the queue. */
  | { readonly _tag: "NoQueue"; readonly queue: string }
  /** No live node that runs the queue has the worker; `elsewhere` names live nodes that have it and lack the queue. */
  | { readonly _tag: "NoWorker"; readonly worker: string; readonly elsewhere: ReadonlyArray<string> }
  /** An operator paused the queue, on all nodes or on those of one name, or one key of it. */
  | {
      readonly _tag: "Paused"
      readonly queue: string
      readonly node: string | undefined
      /** The key of a fair queue; undefined for all of it. */
      readonly partitionKey: string | undefined
      readonly since: Date
    }
  /** An operator removed the queue, from all nodes or from those of one name. */
  | { readonly _tag: "Removed"; readonly queue: string; readonly node: string | undefined; readonly since: Date }
  /** The circuit of its worker is open on every node that would take it: attempts keep failing there. */
  | {
      readonly _tag: "CircuitOpen"
      readonly worker: string
      readonly nodes: ReadonlyArray<string>
      /** Whether all nodes share it. */
      readonly shared: boolean
      /** In how many milliseconds a shared one takes probes; undefined while these run, and for one of each node. */
      readonly probesInMillis: number | undefined
    }
  /** Every node that would take it starts no job below some priority, since others wait too long there. */
  | { readonly _tag: "LoadShed"; readonly below: number; readonly nodes: ReadonlyArray<string> }
  /** A rate is spent, on all nodes; there is room for it again in this time. */
  | {
      readonly _tag: "RateLimited"
      readonly limit: string
      /** Whose account it is, of a limit by partition key; undefined for that of all, or of jobs without a key. */
      readonly partitionKey: string | undefined
      readonly freesInMillis: number
    }
  /** As many of its worker's jobs run, on all nodes, as may; at most 10 of them are named. */
  | {
      readonly _tag: "ConcurrencyLimited"
      readonly worker: string
      readonly running: number
      readonly limit: number
      readonly by: ReadonlyArray<JobId>
      /** When one of them ends, if it takes as long as half of the worker's do; undefined where all take longer. */
      readonly freesInMillis: number | undefined
    }
  /** As many of its partition's jobs run, on all nodes, as may. */
  | {
      readonly _tag: "PartitionLimited"
      readonly partitionKey: string | undefined
      readonly running: number
      readonly limit: number
    }
  /** As many attempts of its worker run as may, on each node that would take it. */
  | { readonly _tag: "WorkerBusy"; readonly worker: string; readonly executing: number; readonly places: number }
  /** Nodes that would take it have no free slot. */
  | { readonly _tag: "Busy"; readonly executing: number; readonly slots: number }
  /** Others of its queue come first; `atLeast` where there are more than were counted. */
  | { readonly _tag: "Ahead"; readonly count: number; readonly atLeast: boolean }

/**
 * A job that another one waits for; `state` is undefined where nothing of it is kept.
 *
 * @category models
 */
export interface BlockingJob {
  readonly id: JobId
  /** What the waiting job calls it: its name in a flow or a definition, or that of a fan-out. */
  readonly name: string | undefined
  /** Whether the waiting job has added it itself, by a fan-out. */
  readonly child: boolean
  readonly state: string | undefined
}

/**
 * What keeps a job from running.
 *
 * @category models
 */
export interface Explanation {
  readonly job: JobRow
  /** `runnable` says that a claim would take it now, `waiting` that none would. */
  readonly status: "runnable" | "waiting" | "running" | "finished"
  /** All that holds, the weightiest first; none for a runnable job whose turn it is. */
  readonly reasons: ReadonlyArray<Reason>
  /** Its place in its queue, from 1; undefined unless it is runnable. */
  readonly position: number | undefined
  /** The same for people. */
  readonly message: string
}

/**
 * Explains what was found out about a job.
 *
 * @category rules
 */
export const explain = (found: Findings): Explanation => {
  const { job } = found
  const reasons = reasonsOf(found)
  const runnable = found.nodes.some((node) => node.takes)
  const status =
    job.finishedAt !== undefined
      ? "finished"
      : reasons.some((reason) => reason._tag === "Running")
        ? "running"
        : runnable
          ? "runnable"
          : "waiting"
  return {
    job,
    status,
    reasons,
    position: runnable ? found.ahead + 1 : undefined,
    message: `Job ${job.id} is ${status}${reasons.length === 0 ? ": the next claim takes it" : `: ${reasons.map(tell).join("; ")}`}.`
  }
}

/**
 * Tells a reason to people.
 *
 * @category rules
 */
export const tell = (reason: Reason): string => {
  switch (reason._tag) {
    case "Finished":
      return `it was ${reason.state}`
    case "Running":
      return `it runs on ${reason.node}${reason.cancelRequested ? " and is to be cancelled" : ""}`
    case "NodeLost":
      return `node ${reason.node}, which ran it, is silent; another node takes it over`
    case "NotDue":
      return `it is due in ${Duration.format(Duration.millis(Math.ceil(reason.inMillis)))}${
        reason.after === "failure" ? ", after a failed attempt" : ""
      }`
    case "Expired":
      return `it could not start before ${reason.startBefore.toISOString()}, and a node ends it soon`
    case "NotBroadcast":
      return `other nodes run each job of the queue "${reason.queue}" everywhere, and ${reason.nodes.join(", ")}, which would take it, ${
        reason.nodes.length === 1 ? "has" : "have"
      } it as an ordinary one: say broadcast on all nodes`
    case "Broadcast":
      return `each node runs a copy of it, ${reason.copies} so far, and so does one that starts within ${Duration.format(
        Duration.millis(Math.max(Math.ceil(reason.endsInMillis), 0))
      )}`
    case "DueNow":
      return "it is due, and the next look of a node makes it available"
    case "Blocked":
      return reason.total === 0
        ? "it waits for nothing any more, and a node lets it go soon"
        : `it waits for ${jobs(reason)}`
    case "Held":
      return `it is held since ${jobs(reason)} did not succeed; retry that, or this one`
    case "NoAttemptLeft":
      return `${reason.attempt} of ${reason.maxAttempts} attempts are used up`
    case "NoNode":
      return "no node is alive"
    case "NoQueue":
      return `no live node runs the queue "${reason.queue}"`
    case "NoWorker":
      return `no live node that runs its queue has the worker "${reason.worker}"${
        reason.elsewhere.length === 0 ? "" : ` (${reason.elsewhere.join(", ")} would, but lacks the queue)`
      }`
    case "Paused":
      return reason.partitionKey === undefined
        ? `the queue "${reason.queue}" is paused${where(reason)}`
        : `partition "${reason.partitionKey}" of the queue "${reason.queue}" is paused${where(reason)}`
    case "Removed":
      return `the queue "${reason.queue}" was removed${where(reason)}`
    case "CircuitOpen":
      return `the circuit of "${reason.worker}" is open on ${reason.nodes.join(", ")}${
        !reason.shared
          ? ""
          : reason.probesInMillis === undefined
            ? ", until its probes have succeeded"
            : `, for another ${Duration.format(Duration.millis(reason.probesInMillis))}`
      }`
    case "LoadShed":
      return `${reason.nodes.join(", ")} start${reason.nodes.length === 1 ? "s" : ""} no job of a priority below ${
        reason.below
      }, since others wait too long`
    case "RateLimited":
      return `the rate "${reason.limit}"${
        reason.partitionKey === undefined ? "" : ` of partition "${reason.partitionKey}"`
      } is spent, frees in ${Duration.format(Duration.millis(reason.freesInMillis))}`
    case "ConcurrencyLimited":
      return `limit of "${reason.worker}": ${reason.running}/${reason.limit} held by ${
        reason.by.length === 1 ? "job" : "jobs"
      } ${reason.by.join(", ")}${reason.running > reason.by.length ? ", …" : ""}${
        reason.freesInMillis === undefined
          ? ""
          : `, frees in ~${Duration.format(Duration.millis(reason.freesInMillis))}`
      }`
    case "PartitionLimited":
      return `${reason.running} jobs of ${
        reason.partitionKey === undefined ? "no partition" : `partition "${reason.partitionKey}"`
      } run, and ${reason.limit} may`
    case "WorkerBusy":
      return `as many attempts of "${reason.worker}" run as may (${reason.executing} of ${reason.places})`
    case "Busy":
      return `all slots are taken (${reason.executing} of ${reason.slots})`
    case "Ahead":
      return `${reason.atLeast ? "at least " : ""}${reason.count} jobs of its queue come first`
  }
}

// internal

const where = (wish: { readonly node: string | undefined; readonly since: Date }): string =>
  `${wish.node === undefined ? "" : ` on ${wish.node}`} since ${wish.since.toISOString()}`

const jobs = (reason: { readonly by: ReadonlyArray<BlockingJob>; readonly total: number }): string => {
  const named = reason.by.slice(0, 5).map(({ id, name, state }) => {
    const known = [name, state].filter((one) => one !== undefined)
    return `${id}${known.length === 0 ? "" : ` (${known.join(", ")})`}`
  })
  const more = reason.total - named.length
  const [one, many] = reason.by.every(({ child }) => child) ? ["its child", "its children"] : ["job", "jobs"]
  return `${reason.total === 1 ? one : many} ${named.join(", ")}${more > 0 ? ` and ${more} more` : ""}`
}

const reasonsOf = (found: Findings): ReadonlyArray<Reason> => {
  const { job, nodes } = found
  switch (job.state) {
    case "completed":
    case "discarded":
    case "cancelled":
      return [{ _tag: "Finished", state: job.state }]
    case "executing": {
      const holder = nodes.find((node) => node.id === job.claimedBy)
      const name = holder?.name ?? `number ${job.claimedBy}`
      return holder?.live === true
        ? [{ _tag: "Running", node: holder.name, cancelRequested: job.cancelRequestedAt !== undefined }]
        : [{ _tag: "NodeLost", node: name }]
    }
    case "blocked":
      return [...expired(found), ...parentsOf(found), ...standing(found)]
    case "scheduled":
    case "retryable": {
      if (found.copies > 0) return [{ _tag: "Broadcast", copies: found.copies, endsInMillis: found.waitMillis }]
      const after = job.state === "retryable" ? "failure" : "delay"
      return [
        ...expired(found),
        found.waitMillis > 0 ? { _tag: "NotDue", inMillis: found.waitMillis, after } : { _tag: "DueNow" },
        ...standing(found)
      ]
    }
    case "available":
      return [...expired(found), ...standing(found), ...limited(found), ...turn(found)]
  }
}

const expired = ({ job: { runAt, startBefore, state }, waitMillis }: Findings): ReadonlyArray<Reason> => {
  if (startBefore === undefined) return []
  const now = runAt.epochMilliseconds - waitMillis
  const startsAt = state === "available" ? now : Math.max(now, runAt.epochMilliseconds)
  return startBefore.epochMilliseconds <= startsAt
    ? [{ _tag: "Expired", startBefore: DateTime.toDateUtc(startBefore) }]
    : []
}

const parentsOf = ({ parents }: Findings): ReadonlyArray<Reason> => {
  const named = (wanted: (outcome: string | undefined) => boolean): ReadonlyArray<BlockingJob> =>
    parents
      .filter((parent) => wanted(parent.outcome))
      .map(({ child, id, name, outcome, state }) => ({ id, name, child, state: state ?? outcome }))
  const alive = named((outcome) => outcome === undefined)
  const failed = named((outcome) => outcome !== undefined)
  const total = parents[0]?.total ?? 0
  const held = { _tag: "Held" as const, by: failed, total: alive.length === 0 ? total : failed.length }
  const blocked = { _tag: "Blocked" as const, by: alive, total: total - failed.length }
  if (failed.length === 0) return [blocked]
  return alive.length === 0 ? [held] : [blocked, held]
}

/** What would keep it from running wherever it stood. */
const standing = ({ job, keyPausedAt, nodes, wishes }: Findings): ReadonlyArray<Reason> => {
  const reasons: Array<Reason> = []
  const live = nodes.filter((node) => node.live)
  const serving = live.filter((node) => node.has_queue)
  if (job.attempt >= job.maxAttempts) {
    reasons.push({ _tag: "NoAttemptLeft", attempt: job.attempt, maxAttempts: job.maxAttempts })
  }
  const able = serving.filter((node) => node.has_worker)
  // A node whose circuit is open would not take it either way.
  const stopped = able.filter((node) => !node.broken).every((node) => node.paused || node.removed)
  for (const { node, paused_at, removed_at } of wishes) {
    // A wish for one name is a reason only where it stops the last that could, or leaves none that runs the queue.
    const matters = stopped && (serving.length === 0 ? live : able).some((one) => one.name === node)
    const at = { queue: job.queue, node: node === "" ? undefined : node }
    if (paused_at !== null && (node === "" || matters)) {
      reasons.push({ _tag: "Paused", ...at, partitionKey: undefined, since: paused_at })
    }
    const gone = able.length === 0 || able.some((one) => one.removed)
    if (removed_at !== null && (node === "" ? stopped && gone : matters)) {
      reasons.push({ _tag: "Removed", ...at, since: removed_at })
    }
  }
  if (keyPausedAt !== undefined) {
    const { partitionKey, queue } = job
    reasons.push({ _tag: "Paused", queue, node: undefined, partitionKey, since: keyPausedAt })
  }
  if (live.length === 0) return [...reasons, { _tag: "NoNode" }]
  if (serving.length === 0) reasons.push({ _tag: "NoQueue", queue: job.queue })
  if (able.length === 0) {
    const elsewhere = live.filter((node) => node.has_worker).map((node) => node.name)
    if (serving.length > 0 || elsewhere.length === 0) {
      reasons.push({ _tag: "NoWorker", worker: job.worker, elsewhere: [...new Set(elsewhere)] })
    }
  }
  const open = able.filter((node) => !node.paused && !node.removed && !node.broken)
  const shed = open.filter(({ shed_below }) => shed_below !== null && job.priority < shed_below)
  if (shed.length > 0 && shed.length === open.length) {
    const below = Math.min(...shed.map(({ shed_below }) => shed_below ?? 0))
    reasons.push({ _tag: "LoadShed", below, nodes: shed.map((node) => node.name) })
  }
  const ordinary = open.filter((node) => node.ordinary).map((node) => node.name)
  if (ordinary.length > 0 && ordinary.length === open.length) {
    reasons.push({ _tag: "NotBroadcast", queue: job.queue, nodes: ordinary })
  }
  const broken = able.filter((node) => node.broken).map((node) => node.name)
  if (broken.length > 0 && stopped) {
    reasons.push({
      _tag: "CircuitOpen",
      worker: job.worker,
      nodes: broken,
      shared: false,
      probesInMillis: undefined
    })
  }
  return reasons
}

/** What limits over all nodes keep from every node that would take it. */
const limited = ({ freesInMillis: placeInMillis, holders, job, nodes, partition }: Findings): ReadonlyArray<Reason> => {
  if (partition !== undefined) return [{ _tag: "PartitionLimited", partitionKey: job.partitionKey, ...partition }]
  if (nodes.some((node) => node.takes)) return []
  const held = nodes.flatMap((node) => node.held ?? [])
  const spent = new Map(held.flatMap((one) => (one.why === "circuit" ? [] : [[one.limit, one] as const])))
  const broken = nodes.filter((node) => node.held?.why === "circuit")
  const circuits = broken.slice(0, 1).map(({ held }): Reason => ({
    _tag: "CircuitOpen",
    worker: job.worker,
    nodes: broken.map((node) => node.name),
    shared: true,
    probesInMillis: held?.freesInMillis
  }))
  const limits = [...spent].map(([limit, { freesInMillis, only, places }]): Reason =>
    freesInMillis === undefined
      ? {
          _tag: "ConcurrencyLimited",
          worker: limit,
          running: places?.running ?? holders.length,
          limit: places?.limit ?? holders.length,
          by: holders,
          freesInMillis: placeInMillis
        }
      : {
          _tag: "RateLimited",
          limit,
          partitionKey: typeof only === "object" ? job.partitionKey : undefined,
          freesInMillis
        }
  )
  return [...limits, ...circuits]
}

/** What it waits for although a claim would take it. */
const turn = ({ ahead, job, nodes }: Findings): ReadonlyArray<Reason> => {
  const takers = nodes.filter((node) => node.takes)
  if (takers.length === 0) return []
  const reasons: Array<Reason> = []
  const executing = takers.reduce((sum, node) => sum + node.executing, 0)
  const slots = takers.reduce((sum, node) => sum + (node.slots ?? 0), 0)
  if (takers.every((node) => node.crowded || (node.slots !== null && node.executing >= node.slots))) {
    reasons.push({ _tag: "Busy", executing, slots })
  }
  const bounded = takers.filter(({ of_worker, places }) => places !== null && of_worker >= places)
  if (bounded.length === takers.length) {
    const running = bounded.reduce((sum, node) => sum + node.of_worker, 0)
    const places = bounded.reduce((sum, node) => sum + (node.places ?? 0), 0)
    reasons.push({ _tag: "WorkerBusy", worker: job.worker, executing: running, places })
  }
  if (ahead > 0) reasons.push({ _tag: "Ahead", count: ahead, atLeast: ahead >= aheadLimit })
  return reasons
}
