import { assert, describe, it } from "@effect/vitest"
import { makeShedder } from "../../src/internal/shedder.ts"

/** Queues that always have work share a node, in steps of a millisecond; says how much of it each had, and its starts. */
const share = (
  maxInFlight: number,
  queues: Readonly<Record<string, { readonly weight: number; readonly millis: number; readonly slots?: number }>>,
  steps: number
) => {
  const running: Array<{ readonly queue: string; readonly endsAt: number }> = []
  const used: Record<string, number> = {}
  const starts: Record<string, number> = {}
  const shedder = makeShedder(
    { maxInFlight, targetMillis: Infinity, intervalMillis: Infinity, levels: [{ below: -100, share: 1 }] },
    {
      running: (queue) => running.filter((one) => queue === undefined || one.queue === queue).length,
      publish: () => {},
      changed: () => {},
      patienceMillis: 2000,
      weights: new Map(Object.entries(queues).map(([name, { weight }]) => [name, weight]))
    }
  )
  const ask = (queue: string, now: number): void => {
    const { millis, slots = maxInFlight } = queues[queue] ?? { millis: 1, slots: 1 }
    const wanted = slots - running.filter((one) => one.queue === queue).length
    if (wanted <= 0) return
    const { room } = shedder.reserve(queue, wanted, now)
    for (let i = 0; i < room; i++) running.push({ queue, endsAt: now + millis })
    starts[queue] = (starts[queue] ?? 0) + room
    for (const other of shedder.release(queue, room, room)) ask(other, now)
    if (room > 0) ask(queue, now)
  }
  for (let now = 0; now < steps; now++) {
    const ended = running.filter(({ endsAt }) => endsAt <= now)
    for (const one of ended) {
      running.splice(running.indexOf(one), 1)
      // As a node does: the queue whose slot is free first, then those that wait.
      ask(one.queue, now)
      for (const queue of shedder.waiting()) ask(queue, now)
    }
    if (now % 10 === 0) for (const queue of Object.keys(queues)) ask(queue, now)
    assert.isAtMost(running.length, maxInFlight)
    for (const { queue } of running) used[queue] = (used[queue] ?? 0) + 1
  }
  const total = Object.values(used).reduce((sum, one) => sum + one, 0)
  const part = (queue: string): number => (used[queue] ?? 0) / total
  return { part, busy: total / steps / maxInFlight, starts }
}

describe("queues that share a node", () => {
  it("get their parts of its places by weight, whatever fits into them", () => {
    for (const maxInFlight of [1, 2, 3, 8, 20]) {
      const { busy, part } = share(maxInFlight, { a: { weight: 3, millis: 20 }, b: { weight: 1, millis: 20 } }, 20_000)
      assert.approximately(part("a"), 0.75, 0.03, `${maxInFlight} places`)
      assert.isAbove(busy, 0.95)
    }
  })

  it("get them also where the jobs of one take much longer, and hold no more than the part rounded up", () => {
    const { part } = share(8, { long: { weight: 1, millis: 1000 }, short: { weight: 3, millis: 10 } }, 20_000)
    assert.approximately(part("long"), 0.25, 0.05)
  })

  it("share alike without weights", () => {
    const { part } = share(
      6,
      { a: { weight: 1, millis: 7 }, b: { weight: 1, millis: 30 }, c: { weight: 1, millis: 90 } },
      20_000
    )
    for (const queue of ["a", "b", "c"]) assert.approximately(part(queue), 1 / 3, 0.05)
  })

  it("never starve, whatever they weigh", () => {
    const { starts } = share(2, { heavy: { weight: 1000, millis: 5 }, light: { weight: 1, millis: 5 } }, 20_000)
    assert.isAtLeast(starts["light"] ?? 0, 5)
  })

  it("leave to others what they have no slots for", () => {
    const { busy, part } = share(
      10,
      { few: { weight: 9, millis: 20, slots: 2 }, many: { weight: 1, millis: 20 } },
      20_000
    )
    assert.approximately(part("few"), 0.2, 0.03)
    assert.isAbove(busy, 0.9)
  })
})
