/**
 * What makes a job one that a node may claim: said once, for the claim and for whoever explains why there was none.
 *
 * The fragments speak of a job `j`. Who asks is given as fragments too: values in a claim, columns in an explanation.
 */
import type { Fragment } from "effect/sql/Statement"
import type { Db } from "./db.ts"

/** Who asks for jobs of which queue. */
export interface Asker {
  /** The number of the incarnation. */
  readonly node: Fragment
  readonly nodeName: Fragment
  readonly queue: Fragment
  /** The names of its workers, as an array. */
  readonly workers: Fragment
  /** The highest rank, that is the lowest priority, of jobs that it takes now; undefined for any. */
  readonly lowest?: Fragment | undefined
  /** Whether it makes itself copies of the queue's jobs, as every node does; it then claims these alone. Undefined for no. */
  readonly makesCopies?: Fragment | undefined
  readonly now: Fragment
}

/**
 * Whether the job is one of the queue's that wait for a slot, of a worker that the asker has, with an attempt left and
 * its deadline ahead; not for one that has a queue as an ordinary one of which a live node makes copies.
 */
export const isWaiting = (db: Db, asker: Asker): Fragment => db.sql`
  j.queue = ${asker.queue}
      AND j.state = 'available'
      AND j.worker = ANY(${asker.workers})
      AND j.attempt < j.max_attempts
      AND (j.start_before IS NULL OR j.start_before > ${asker.now})
      ${asker.lowest === undefined ? db.sql`` : db.sql`AND j.rank <= ${asker.lowest}`}
      AND (${asker.makesCopies ?? db.sql`false`} OR NOT ${isBroadcast(db, asker)})`

/** Whether a live node makes copies of the queue's jobs. */
export const isBroadcast = (db: Db, asker: Pick<Asker, "queue" | "now">): Fragment => db.sql`
  EXISTS (
        SELECT FROM ${db.nodes} AS n
        WHERE ${asker.queue} = ANY(n.broadcasts)
          AND n.expires_at > ${asker.now}
      )`

/** Whether the asker's lease is live. */
export const isLive = (db: Db, asker: Asker): Fragment => db.sql`
  EXISTS (
        SELECT FROM ${db.nodes} AS n
        WHERE n.id = ${asker.node}
          AND n.expires_at > ${asker.now}
      )`

/** Whether an operator paused the queue, everywhere or on nodes of the asker's name. */
export const isPaused = (db: Db, asker: Asker): Fragment => db.sql`
  EXISTS (
        SELECT FROM ${db.queues} AS q
        WHERE q.name = ${asker.queue}
          AND q.node IN ('', ${asker.nodeName})
          AND q.paused_at IS NOT NULL
      )`

/** Whether an operator removed the queue, everywhere or on nodes of the asker's name. */
export const isRemoved = (db: Db, asker: Asker): Fragment => db.sql`
  EXISTS (
        SELECT FROM ${db.queues} AS q
        WHERE q.name = ${asker.queue}
          AND q.removed_at IS NOT NULL
          AND (q.node = ${asker.nodeName} OR (q.node = '' AND NOT EXISTS (
            SELECT FROM ${db.queues} AS own
            WHERE own.name = q.name
              AND own.node = ${asker.nodeName}
              AND own.concurrency IS NOT NULL
          )))
      )`
