/**
 * `shigoto nodes`, `workers` and `limits`: who runs what, and what holds it back.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { Jobs } from "../Jobs.ts"
import { Limits } from "../Limits.ts"
import { connected } from "./internal/connection.ts"
import { NotFound } from "./internal/exit.ts"
import { type Cell, Screen } from "./internal/screen.ts"
import * as shapes from "./internal/shapes.ts"
import { count, duration, json, relative } from "./internal/text.ts"

const readNodes = Effect.flatMap(Jobs, (jobs) => jobs.nodes)

/**
 * The nodes.
 *
 * @category commands
 */
export const nodes = Command.make(
  "nodes",
  {},
  Effect.fnUntraced(function* () {
    const screen = yield* Screen
    const rows = yield* connected(readNodes)
    const now = (yield* DateTime.now).epochMilliseconds
    yield* screen.showList(
      { name: "nodes", items: rows.map(shapes.node) },
      rows.length === 0
        ? screen.say("No node has run lately.")
        : screen.table(
            [
              { title: "ID", align: "right" },
              { title: "NAME", shrinkTo: 8 },
              { title: "STATUS" },
              { title: "RUNNING", align: "right" },
              { title: "QUEUES", shrinkTo: 8 },
              { title: "WORKERS", align: "right", optional: 1 },
              { title: "STARTED", align: "right", optional: 2 },
              { title: "BEAT", align: "right", optional: 3 },
              { title: "LAG", align: "right", optional: 4 },
              { title: "HEARS", optional: 5 }
            ],
            rows.map((node): ReadonlyArray<Cell> => {
              const moment = (at: DateTime.Utc): string =>
                screen.isTerminal ? relative(at.epochMilliseconds, now) : DateTime.formatIso(at)
              return [
                String(node.id),
                node.name,
                !node.live
                  ? ["dead", "red"]
                  : node.silentMillis > node.leaseTtlMillis / 2
                    ? ["silent", "yellow"]
                    : ["live", "green"],
                count(node.executing),
                node.queues.map((queue) => `${queue.name}:${queue.concurrency}`).join(" "),
                String(node.workers.length),
                moment(node.startedAt),
                moment(node.beatAt),
                [duration(node.lagMillis), node.lagMillis >= node.leaseTtlMillis / 4 ? "yellow" : undefined],
                node.listening ? "notifications" : "polls"
              ]
            })
          )
    )
  })
).pipe(Command.withDescription("List the processes that run jobs"))

const listWorkers = Effect.fnUntraced(function* () {
  const screen = yield* Screen
  const live = (yield* connected(readNodes)).filter((node) => node.live)
  const names = [...new Set(live.flatMap((node) => node.workers))].toSorted()
  const items = names.map((worker) => ({
    worker,
    nodes: [...new Set(live.filter((node) => node.workers.includes(worker)).map((node) => node.name))].toSorted(),
    instances: live.filter((node) => node.workers.includes(worker)).length
  }))
  yield* screen.showList(
    { name: "workers", items },
    items.length === 0
      ? screen.say("No live node has a worker.")
      : screen.table(
          [
            { title: "WORKER", shrinkTo: 10 },
            { title: "NODES", align: "right" },
            { title: "NAMES", shrinkTo: 8 }
          ],
          items.map(({ instances, nodes, worker }) => [worker, String(instances), nodes.join(", ")])
        )
  )
})

const schema = Command.make(
  "schema",
  { worker: Argument.String("worker").pipe(Argument.withDescription("The worker's name")) },
  Effect.fnUntraced(function* ({ worker }) {
    const screen = yield* Screen
    const found = yield* connected(Effect.flatMap(Jobs, (jobs) => jobs.argsSchema(worker)))
    if (found === undefined) {
      return yield* new NotFound({ message: `No node has told what the worker ${JSON.stringify(worker)} takes.` })
    }
    yield* screen.show(found, screen.print(json(found, 2)))
  })
).pipe(Command.withDescription("Show the JSON Schema of a worker's args, as a node has told it"))

/**
 * The workers.
 *
 * @category commands
 */
export const workers = Command.make("workers", {}, listWorkers).pipe(
  Command.withDescription("List the workers of live nodes, or show what one takes"),
  Command.withSubcommands([schema])
)

/**
 * The limits.
 *
 * @category commands
 */
export const limits = Command.make(
  "limits",
  {},
  Effect.fnUntraced(function* () {
    const screen = yield* Screen
    const found = yield* connected(Effect.flatMap(Limits, (limits) => limits.list))
    const now = (yield* DateTime.now).epochMilliseconds
    yield* screen.showList(
      { name: "limits", items: found.map(shapes.limit) },
      found.length === 0
        ? screen.say("No worker of a live node is limited.")
        : screen.table(
            [
              { title: "WORKER", shrinkTo: 8 },
              { title: "RUNNING", align: "right" },
              { title: "RATE", shrinkTo: 8 },
              { title: "LEFT", align: "right" },
              { title: "RULE", optional: 1 },
              { title: "HELD", align: "right" }
            ],
            found.map(({ concurrency, queue, rate, running, worker }): ReadonlyArray<Cell> => {
              const isFull = concurrency !== undefined && running >= concurrency
              return [
                queue === undefined ? worker : `queue ${queue}`,
                [
                  `${count(running)}${concurrency === undefined ? "" : `/${count(concurrency)}`}`,
                  isFull ? "yellow" : undefined
                ],
                rate?.name ?? "–",
                rate === undefined
                  ? "–"
                  : [String(Math.floor(rate.room)), rate.room < rate.cost ? "yellow" : undefined],
                rate === undefined ? "" : `${count(rate.limit)} in ${duration(rate.windowMillis)}, ${rate.algorithm}`,
                rate?.heldUntil === undefined ? "–" : [relative(rate.heldUntil.getTime(), now), "yellow"]
              ]
            })
          )
    )
  })
).pipe(Command.withDescription("List the limits of workers over all nodes, and how much is left"))
