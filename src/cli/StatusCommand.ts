/**
 * `shigoto status`: the whole on one screen, once or again and again.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { type HealthReason, tell as tellReason } from "../Health.ts"
import { Jobs } from "../Jobs.ts"
import { Queues } from "../Queues.ts"
import { connected, target } from "./internal/connection.ts"
import { exitCodes, Unwell } from "./internal/exit.ts"
import { counted, standing } from "./internal/queueView.ts"
import { type Cell, type Column, Screen } from "./internal/screen.ts"
import * as shapes from "./internal/shapes.ts"
import { count, duration, line, many } from "./internal/text.ts"

/**
 * The command.
 *
 * @category commands
 */
export const status = Command.make(
  "status",
  {
    watch: Flag.Boolean("watch").pipe(
      Flag.withAlias("w"),
      Flag.withDescription("Look again every --interval, until Ctrl-C"),
      Flag.withDefault(false)
    ),
    interval: Flag.Finite("interval").pipe(
      Flag.withMetavar("<seconds>"),
      Flag.withDescription("Seconds between two looks"),
      Flag.filter(
        (seconds) => seconds >= 0.1 && seconds <= 3600,
        (seconds) => `${seconds} is not from 0.1 to 3600`
      ),
      Flag.withDefault(2)
    )
  },
  Effect.fnUntraced(function* ({ interval, watch }) {
    const screen = yield* Screen
    const { schema, shown } = yield* target
    const status = yield* connected(
      Effect.gen(function* () {
        const look = Effect.gen(function* () {
          const seen = yield* read
          yield* screen.show(shape(seen, schema), screen.write(`${draw(seen, screen, shown, schema).join("\n")}\n`))
          return seen.health.status
        })
        if (!watch) return yield* look
        if (!screen.isTerminal || screen.format !== "text") {
          return yield* Effect.forever(Effect.andThen(look, Effect.sleep(interval * 1000)))
        }
        // A screen of its own, without wrapping: what was there before is there again afterwards.
        return yield* Effect.acquireUseRelease(
          screen.write("\u001b[?1049h\u001b[?25l\u001b[?7l"),
          () =>
            Effect.forever(
              Effect.gen(function* () {
                const rows = Math.max(5, process.stdout.rows)
                const seen = yield* read
                const all = draw(seen, screen, shown, schema)
                const fits =
                  all.length < rows ? all : [...all.slice(0, rows - 2), `… ${all.length - rows + 2} more lines`]
                // Written over what is there, line by line: a screen that is cleared first flickers.
                yield* screen.write(`\u001b[H${fits.map((text) => `${text}\u001b[K`).join("\n")}\u001b[J`)
                yield* Effect.raceFirst(Effect.sleep(interval * 1000), resized)
              })
            ),
          () => screen.write("\u001b[?7h\u001b[?25h\u001b[?1049l")
        )
      })
    )
    if (status === "down") return yield* new Unwell({ code: exitCodes.failure })
  })
).pipe(
  Command.withDescription("Show whether jobs flow: health, queues, nodes, failures; exit code 1 while they cannot"),
  Command.withExamples([{ command: "shigoto status --watch", description: "Keep looking" }])
)

// internal

/** Waits until the terminal has another size. */
const resized = Effect.callback<void>((resume) => {
  const onResize = () => resume(Effect.void)
  process.stdout.once("resize", onResize)
  return Effect.sync(() => process.stdout.off("resize", onResize))
})

/** What can be read: what cannot is a reason, also for those who keep looking through an outage. */
const read = Effect.gen(function* () {
  const jobs = yield* Jobs
  const queues = yield* Queues
  const health = yield* jobs.health
  const unread: Array<HealthReason> = []
  const attempt = <A>(what: string, look: Effect.Effect<ReadonlyArray<A>, { readonly message: string }>) =>
    Effect.catch(look, ({ message }) =>
      Effect.sync((): ReadonlyArray<A> => {
        unread.push({ _tag: "Unreadable", what, problem: message })
        return []
      })
    )
  const isDown = health.status === "down"
  const overview = isDown ? [] : yield* attempt("The list of queues", queues.overview)
  const failures = isDown ? [] : yield* attempt("The failures", jobs.failures({ limit: 5 }))
  return {
    health: {
      ...health,
      status: health.status === "ok" && unread.length > 0 ? ("degraded" as const) : health.status,
      reasons: [...health.reasons, ...unread]
    },
    queues: overview,
    failures,
    at: yield* DateTime.now
  }
})

type Seen = Effect.Success<typeof read>

const shape = ({ failures, health, queues }: Seen, schema: string) => ({
  status: health.status,
  reasons: health.reasons.map((reason) => ({ ...reason, message: tellReason(reason) })),
  postgres: health.database.version ?? null,
  schema: { name: schema, found: health.schema.found ?? null, expected: health.schema.expected },
  counts: health.counts ?? null,
  queues: queues.map((queue) => ({
    ...shapes.queue(queue),
    oldestMillis: health.queues.find((one) => one.queue === queue.name)?.oldestMillis ?? null
  })),
  nodes: health.nodes.map(shapes.node),
  failures: failures.map(({ count, fingerprint, isExact, worker }) => ({ fingerprint, worker, count, isExact }))
})

const columns: ReadonlyArray<Column> = [
  { title: "QUEUE", shrinkTo: 8 },
  { title: "STATUS" },
  { title: "RUNNING", align: "right" },
  { title: "WAITING", align: "right" },
  { title: "OLDEST", align: "right" },
  { title: "SCHEDULED", align: "right", optional: 3 },
  { title: "RETRYABLE", align: "right", optional: 2 },
  { title: "BLOCKED", align: "right", optional: 4 },
  { title: "NODES", align: "right", optional: 1 }
]

const failing = ({ count: jobs, failure, isExact, worker }: Seen["failures"][number]): string =>
  `${line(worker)} ${line(failure.tag)} ×${count(jobs)}${isExact ? "" : "+"}`

const draw = (seen: Seen, screen: Screen["Service"], shown: string, schema: string): ReadonlyArray<string> => {
  const { failures, health, queues } = seen
  const { paint } = screen
  const color = health.status === "ok" ? "green" : health.status === "degraded" ? "yellow" : "red"
  const live = health.nodes.filter((node) => node.live)
  const rows = queues.map((queue): ReadonlyArray<Cell> => {
    const oldest = health.queues.find((one) => one.queue === queue.name)?.oldestMillis
    return [
      queue.name,
      standing(queue),
      `${counted(queue, "executing")}${queue.nodes === 0 ? "" : `/${count(queue.slots)}`}`,
      counted(queue, "available"),
      oldest === undefined ? "–" : [duration(oldest), oldest >= 60_000 ? "yellow" : undefined],
      counted(queue, "scheduled"),
      [counted(queue, "retryable"), (queue.counts.retryable ?? 0) > 0 ? "yellow" : undefined],
      counted(queue, "blocked"),
      String(queue.nodes)
    ]
  })
  const head = [
    `shigoto · postgres ${line(health.database.version ?? "?")} · schema ${schema} v${health.schema.found ?? "?"}`,
    `${many(live.length, "node")} · ${line(shown)} · ${DateTime.formatIso(seen.at).slice(11, 19)} UTC`
  ].join(" · ")
  return [
    ...screen.wrap(`${paint(health.status, color)} · ${head}`),
    ...health.reasons.flatMap((reason) => screen.wrap(`${paint("!", color)} ${line(tellReason(reason))}`)),
    "",
    ...(rows.length === 0 ? ["No queues yet."] : screen.lines(columns, rows)),
    ...(failures.length === 0
      ? []
      : ["", ...screen.wrap(`Failing: ${failures.map(failing).join(" · ")}   ${paint("→ shigoto failures", "dim")}`)])
  ]
}
