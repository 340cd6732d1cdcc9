/**
 * `shigoto queues`: what is in them, who runs them, and what operators ask of them.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type QueueOverview, Queues } from "../Queues.ts"
import { connected } from "./internal/connection.ts"
import { UsageError } from "./internal/exit.ts"
import { dryRun } from "./internal/options.ts"
import { counted, standing } from "./internal/queueView.ts"
import { type Cell, Screen } from "./internal/screen.ts"
import * as shapes from "./internal/shapes.ts"
import { count } from "./internal/text.ts"

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function* () {
    const screen = yield* Screen
    const found = yield* connected(Effect.flatMap(Queues, (queues) => queues.overview))
    yield* screen.showList(
      { name: "queues", items: found.map(shapes.queue) },
      found.length === 0
        ? screen.say("No queue has jobs, nodes or wishes.")
        : screen.table(
            [
              { title: "QUEUE", shrinkTo: 8 },
              { title: "STATUS" },
              { title: "NODES", align: "right" },
              { title: "SLOTS", align: "right" },
              { title: "RUNNING", align: "right" },
              { title: "WAITING", align: "right" },
              { title: "SCHEDULED", align: "right", optional: 2 },
              { title: "RETRYABLE", align: "right", optional: 1 },
              { title: "BLOCKED", align: "right", optional: 3 },
              { title: "ASKED", shrinkTo: 8, optional: 4 }
            ],
            found.map(rowOf)
          )
    )
  })
).pipe(Command.withDescription("List the queues of all nodes"))

const name = Argument.String("queue").pipe(Argument.withDescription("The queue's name"))

const node = Flag.String("node").pipe(
  Flag.withMetavar("<name>"),
  Flag.withDescription("Only on the nodes of this name"),
  Flag.optional
)

const key = Flag.String("key").pipe(
  Flag.withMetavar("<partition key>"),
  Flag.withDescription("Only the jobs of this key of a fair queue"),
  Flag.optional
)

const pausing = (verb: "pause" | "resume", description: string) =>
  Command.make(
    verb,
    { name, node, key, dryRun },
    Effect.fnUntraced(function* ({ dryRun, key, name, node }) {
      if (Option.isSome(node) && Option.isSome(key)) {
        return yield* new UsageError({ message: "--node and --key exclude each other: a key is paused on all nodes." })
      }
      const what = Option.isSome(key)
        ? { partitionKey: key.value }
        : { ...(Option.isSome(node) ? { node: node.value } : {}) }
      if (!dryRun) yield* connected(Effect.flatMap(Queues, (queues) => queues[verb](name, what)))
      yield* told(verb === "pause" ? "paused" : "resumed", dryRun, name, { node, key })
    })
  ).pipe(Command.withDescription(description))

const pause = pausing("pause", "Start no further job of a queue; those that run go on")

const resume = pausing("resume", "Take a pause back")

const scale = Command.make(
  "scale",
  {
    name,
    concurrency: Argument.Int("concurrency").pipe(
      Argument.withDescription("How many of its jobs run at once on each node")
    ),
    node,
    dryRun
  },
  Effect.fnUntraced(function* ({ concurrency, dryRun, name, node }) {
    const where = Option.isSome(node) ? { node: node.value } : {}
    if (!dryRun) yield* connected(Effect.flatMap(Queues, (queues) => queues.scale(name, concurrency, where)))
    yield* told(`scaled to ${concurrency}`, dryRun, name, { node, key: Option.none() }, { concurrency })
  })
).pipe(Command.withDescription("Change how many jobs of a queue run at once on each node that runs it"))

/**
 * The command.
 *
 * @category commands
 */
export const queues = Command.make("queues").pipe(
  Command.withDescription("List, pause, resume and scale queues"),
  Command.withSubcommands([list, pause, resume, scale])
)

// internal

const rowOf = (queue: QueueOverview): ReadonlyArray<Cell> => [
  queue.name,
  standing(queue),
  String(queue.nodes),
  count(queue.slots),
  counted(queue, "executing"),
  counted(queue, "available"),
  counted(queue, "scheduled"),
  counted(queue, "retryable"),
  counted(queue, "blocked"),
  [
    ...queue.wishes.flatMap((wish) => {
      const at = wish.node === undefined ? "" : ` on ${wish.node}`
      return [
        ...(wish.paused && wish.node !== undefined ? [`paused${at}`] : []),
        ...(wish.removed ? [`removed${at}`] : []),
        ...(wish.concurrency === undefined ? [] : [`${wish.concurrency} slots${at}`])
      ]
    }),
    ...queue.pausedKeys.map((one) => `key ${one} paused`)
  ].join(", ")
]

const told = Effect.fnUntraced(function* (
  done: string,
  dryRun: boolean,
  queue: string,
  { key, node }: { readonly node: Option.Option<string>; readonly key: Option.Option<string> },
  more: Readonly<Record<string, unknown>> = {}
) {
  const screen = yield* Screen
  const where = [
    ...(Option.isSome(node) ? [` on nodes named ${node.value}`] : []),
    ...(Option.isSome(key) ? [`, key ${key.value},`] : [])
  ].join("")
  yield* screen.show(
    {
      queue,
      node: Option.getOrNull(node),
      partitionKey: Option.getOrNull(key),
      outcome: done.split(" ")[0],
      dryRun,
      ...more
    },
    screen.say(`Queue ${queue}${where} ${dryRun ? "would be" : "is"} ${done}.`)
  )
})
