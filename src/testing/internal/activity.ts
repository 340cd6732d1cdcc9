/**
 * Knows when nothing moves: no fiber has something to run, and no statement is on its way to the database or back.
 *
 * Statements leave one at a time, and each only when all fibers are parked. So the order in which fibers, statements and
 * replies follow each other depends on the program alone, never on which of two sockets was faster.
 */
import type * as Scheduler from "effect/Scheduler"

/** A write to the database that waits for its turn. */
export interface Cycle {
  readonly send: () => void
}

/** How many turns of the event loop must find nothing: promises and next ticks settle in between. */
const calmTurns = 3

/**
 * How long, in real milliseconds, the next statement waits for one that does not end: it may hold the lock that the
 * first one waits for.
 */
const patience = 1000

/** The activity of one virtual world. */
export class Activity {
  private tasks = 0
  private calm = 0
  private turning = false
  /** Writes sent that lack a reply. */
  private sent = 0
  private readonly waiting: Array<Cycle> = []
  private readonly idlers: Array<() => void> = []
  private impatience: ReturnType<typeof setTimeout> | undefined
  /** Asked when all is quiet and nobody waits for that: true if it has set something going. */
  onQuiet: () => boolean = () => false

  /** Counts tasks that are queued but have not run yet. */
  scheduler(parent: Scheduler.Scheduler): Scheduler.Scheduler {
    return {
      executionMode: parent.executionMode,
      shouldYield: (fiber) => parent.shouldYield(fiber),
      makeDispatcher: () => {
        const dispatcher = parent.makeDispatcher()
        return {
          scheduleTask: (task, priority) => {
            this.tasks++
            dispatcher.scheduleTask(() => {
              this.tasks--
              this.kick()
              task()
            }, priority)
          },
          flush: () => dispatcher.flush()
        }
      }
    }
  }

  /** Calls back once, as soon as nothing moves. */
  whenQuiet(resume: () => void): () => void {
    this.idlers.push(resume)
    this.kick()
    return () => {
      const index = this.idlers.indexOf(resume)
      if (index >= 0) this.idlers.splice(index, 1)
    }
  }

  /** Queues a write; it is sent in its turn. */
  enqueue(cycle: Cycle): void {
    this.waiting.push(cycle)
    this.waitImpatiently()
    this.kick()
  }

  /** Takes back a write that was not sent. */
  withdraw(cycle: Cycle): void {
    const index = this.waiting.indexOf(cycle)
    if (index >= 0) this.waiting.splice(index, 1)
    this.kick()
  }

  /** Says that writes have all their replies. */
  ended(count: number): void {
    this.sent -= count
    this.kick()
  }

  /** Looks again, from the start: something has just moved. */
  kick(): void {
    this.calm = 0
    if (this.turning) return
    this.turning = true
    setImmediate(this.turn)
  }

  private readonly turn = (): void => {
    // While the database works there is nothing to look for: its reply starts the turns again.
    if (this.sent > 0) {
      this.turning = false
      return
    }
    if (this.tasks > 0) this.calm = 0
    else if (++this.calm >= calmTurns) {
      this.calm = 0
      if (!this.proceed()) {
        this.turning = false
        return
      }
    }
    setImmediate(this.turn)
  }

  private proceed(): boolean {
    if (this.sendNext()) return true
    const idler = this.idlers.shift()
    if (idler === undefined) return this.onQuiet()
    idler()
    return true
  }

  private sendNext(): boolean {
    const cycle = this.waiting.shift()
    if (cycle === undefined) return false
    this.sent++
    if (this.waiting.length > 0) this.waitImpatiently()
    cycle.send()
    return true
  }

  private waitImpatiently(): void {
    clearTimeout(this.impatience)
    this.impatience = setTimeout(() => {
      if (this.sendNext()) this.waitImpatiently()
    }, patience)
    this.impatience.unref()
  }
}
