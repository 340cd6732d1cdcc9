/**
 * `shigoto flows`: one flow node by node, and control over all of its nodes. They are listed among the batches.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type FlowNode, Flows } from "../Flows.ts"
import { Jobs } from "../Jobs.ts"
import { hidden } from "../Redaction.ts"
import { batchArgument, cancel, progressOf, retry, standing } from "./internal/batchVerbs.ts"
import { connected } from "./internal/connection.ts"
import { colorOf } from "./internal/jobView.ts"
import { type Cell, Screen } from "./internal/screen.ts"
import { count, line } from "./internal/text.ts"

const show = Command.make(
  "show",
  { id: batchArgument("flow") },
  Effect.fnUntraced(function* ({ id }) {
    const screen = yield* Screen
    const { nodes, ...flow } = yield* connected(
      Effect.gen(function* () {
        const flow = yield* Effect.flatMap(Flows, (flows) => flows.status(id))
        return { ...flow, nodes: yield* Effect.forEach(flow.nodes, shapeOf) }
      })
    )
    const [text, paint] = standing(flow)
    const field = (name: string, value: string): string => `${screen.paint(name.padEnd(12), "dim")}${line(value)}`
    const names = new Map(nodes.map((node) => [node.id, node.step]))
    yield* screen.show(
      {
        id: flow.id,
        name: flow.name,
        parent: flow.parent ?? null,
        finished: flow.finished,
        outcome: flow.outcome,
        total: flow.total,
        pending: flow.pending,
        counts: flow.counts,
        nodes
      },
      Effect.gen(function* () {
        yield* screen.print(
          `${screen.paint(`flow ${flow.id}`, "bold")} ${line(flow.name)} ${screen.paint(text, paint)}`,
          field("jobs", progressOf(flow)),
          ...Object.entries(flow.counts).flatMap(([state, jobs]) => (jobs === 0 ? [] : [field(state, count(jobs))])),
          ""
        )
        yield* screen.table(
          [
            { title: "STEP", shrinkTo: 8 },
            { title: "JOB", align: "right" },
            { title: "STATE" },
            { title: "WORKER", shrinkTo: 8, optional: 3 },
            { title: "ATTEMPT", align: "right", optional: 2 },
            { title: "ADDED", align: "right", optional: 4 },
            { title: "AFTER", shrinkTo: 8, optional: 1 },
            { title: "PROBLEM", shrinkTo: 10 }
          ],
          nodes.map((node): ReadonlyArray<Cell> => [
            node.step,
            String(node.id),
            [
              node.progress === null || node.state !== "executing" ? node.state : `${node.state} ${node.progress}%`,
              colorOf(node.state)
            ],
            node.worker,
            `${node.attempt}/${node.maxAttempts}`,
            count(node.children),
            node.after.map((parent) => names.get(parent) ?? `#${parent}`).join(", "),
            node.problem ?? ""
          ])
        )
      })
    )
  })
).pipe(Command.withDescription("Show one flow: its nodes, what they come after, and what went wrong"))

/**
 * The command.
 *
 * @category commands
 */
export const flows = Command.make("flows").pipe(
  Command.withDescription("Show, cancel and retry flows; `batches list` lists them"),
  Command.withSubcommands([
    show,
    retry("flow", "Run the nodes that failed again, and with them those that were cancelled because of them"),
    cancel("flow", "Cancel the nodes that have not ended")
  ])
)

// internal

/** A node as JSON; what went wrong quotes the job, so the job says what of it is secret. */
const shapeOf = Effect.fnUntraced(function* (node: FlowNode) {
  const screen = yield* Screen
  const problem = node.cancelReason ?? (node.failure && `${node.failure.tag}: ${node.failure.message}`)
  const job =
    problem === undefined ? undefined : Option.getOrUndefined(yield* Effect.option((yield* Jobs).get(node.id)))
  return {
    step: node.step,
    id: node.id,
    worker: node.worker,
    state: node.state,
    attempt: node.attempt,
    maxAttempts: node.maxAttempts,
    progress: node.progress ?? null,
    after: node.after,
    children: node.children,
    problem: problem === undefined ? null : job === undefined ? hidden : screen.redactText(job)(problem)
  }
})
