/** What producers enqueue: mostly short jobs, some that outlive leases, and every kind of trouble. */
import type { Random } from "../random.ts"
import { timing } from "../settings.ts"
import type { Args, Kind } from "./jobs.ts"

export interface Draft {
  readonly definition: "work" | "hang" | "late" | "once" | "bounded" | "metered" | "tenant"
  readonly args: Args
  readonly options: {
    readonly queue: string
    readonly priority: number
    /** In milliseconds. */
    readonly delay: number
    readonly maxAttempts: number
    readonly partitionKey?: string
  }
}

export const draw = (random: Random, key: string): Draft => {
  const kind = random.weighted<Kind>([
    [840, "ok"],
    [70, "fail"],
    [12, "defect"],
    [25, "snooze"],
    [12, "discard"],
    [8, "cancel"],
    [4, "hang"],
    [20, "spin"],
    [1, "exit"],
    [3, "bigstack"],
    [5, "nul"],
    [30, "fan"]
  ])
  const [queue, millis] = duration(random, kind)
  const always = kind === "fail" && random.chance(0.1)
  return {
    definition: kind === "hang" ? "hang" : definition(random),
    args: {
      key,
      kind,
      millis,
      times: always ? 1000 : kind === "fail" || kind === "snooze" || kind === "fan" ? random.int(1, 2) : 1,
      slot: "",
      text: random.pick(["", "plain", "naïve ☃ 😀", 'quo"tes\\ and\nlines', "'; DROP TABLE jobs; --"]),
      numbers: [random.int(-1_000_000, 1_000_000), random.next(), 0.1, 1e21],
      nested: { __proto__x: null, constructor: "own", [random.pick(["a", "ä", " "])]: random.pick(["1", null]) }
    },
    options: {
      queue,
      priority: random.chance(0.3) ? random.int(-5, 5) : 0,
      delay: random.chance(0.1) ? random.int(1, 3000) : 0,
      maxAttempts: always || kind === "nul" ? random.int(1, 3) : 20
    }
  }
}

/**
 * Short jobs that come all at once: more than a limit admits, or those of two tenants. Each kind has a queue that it may
 * fill: claims under limits go one after the other, and the others are not to wait behind them all the time.
 */
export const crowd = (random: Random, nextKey: () => string): ReadonlyArray<Draft> => {
  const [definition, queue] = random.pick([
    ["tenant", "fair"],
    ["tenant", "sites"],
    ["bounded", "limited"],
    ["metered", "limited"]
  ] as const)
  return Array.from({ length: random.int(40, 80) }, (_, i) => {
    const draft = draw(random, nextKey())
    const options = { ...draft.options, queue, priority: 0, delay: 0, maxAttempts: 20 }
    return {
      definition,
      args: { ...draft.args, kind: "ok", millis: random.int(20, 120) },
      // All of one tenant's jobs first: without turns the other would wait for their end.
      options: definition === "tenant" ? { ...options, partitionKey: i < 30 ? "ada" : "bob" } : options
    }
  })
}

// internal

const definition = (random: Random) =>
  random.weighted<Draft["definition"]>([
    [94, "work"],
    [3, "late"],
    [1.5, "bounded"],
    [1.5, "metered"]
  ])

/** The queue, and how long it works there: long jobs are the ones that zombies are made of. */
const duration = (random: Random, kind: Kind): [queue: string, millis: number] => {
  if (kind === "spin") {
    return ["slow", random.chance(0.02) ? random.int(timing.leaseTtl, timing.leaseTtl * 2) : random.int(20, 100)]
  }
  return random.weighted<[string, number]>([
    [70, ["fast", random.int(0, 20)]],
    [15, ["fast", random.int(50, 300)]],
    [11, ["pausable", random.int(0, 100)]],
    [1, ["slow", random.int(timing.leaseTtl * 2, timing.leaseTtl * 3)]]
  ])
}
