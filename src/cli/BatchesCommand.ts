/**
 * `shigoto batches`: groups of jobs that are waited for together.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Batches, toJson } from "../Batches.ts"
import type { BatchId } from "../JobRow.ts"
import { batchArgument, cancel, progressOf, retry, standing } from "./internal/batchVerbs.ts"
import { connected } from "./internal/connection.ts"
import { colorOf } from "./internal/jobView.ts"
import { int } from "./internal/options.ts"
import { type Cell, Screen } from "./internal/screen.ts"
import { count, line } from "./internal/text.ts"

const list = Command.make(
  "list",
  {
    open: Flag.Boolean("open").pipe(Flag.withDescription("Only those that have not finished"), Flag.withDefault(false)),
    limit: int("limit", 1, 999).pipe(
      Flag.withAlias("n"),
      Flag.withDescription("How many at most, up to 999"),
      Flag.withDefault(50)
    ),
    after: Flag.Int("after").pipe(
      Flag.withMetavar("<id>"),
      Flag.withDescription("Go on after this batch, the last of the page before"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ after, limit, open }) {
    const screen = yield* Screen
    const page = yield* connected(
      Effect.flatMap(Batches, (batches) =>
        batches.list({
          finished: open ? false : undefined,
          after: Option.getOrUndefined(after) as BatchId | undefined, // an id, under its brand
          limit: limit + 1
        })
      )
    )
    const shown = page.slice(0, limit)
    const next = page.length > limit ? (shown.at(-1)?.id ?? null) : null
    yield* screen.showList(
      { name: "batches", items: shown.map(toJson), more: { next } },
      Effect.gen(function* () {
        if (shown.length === 0) return yield* screen.say("There are no batches.")
        yield* screen.table(
          [
            { title: "ID", align: "right" },
            { title: "NAME", shrinkTo: 8 },
            { title: "STATUS" },
            { title: "DONE", align: "right" },
            { title: "COMPLETED", align: "right", optional: 2 },
            { title: "DISCARDED", align: "right", optional: 1 },
            { title: "CANCELLED", align: "right", optional: 3 },
            { title: "PARENT", align: "right", optional: 4 }
          ],
          shown.map((batch): ReadonlyArray<Cell> => [
            String(batch.id),
            batch.name,
            standing(batch),
            `${count(batch.total - batch.pending)}/${count(batch.total)}`,
            count(batch.completed),
            [count(batch.discarded), batch.discarded > 0 ? "red" : undefined],
            count(batch.cancelled),
            batch.parent === undefined ? "–" : String(batch.parent)
          ])
        )
        if (next !== null) yield* screen.say(`There are more: --after ${next}`, "dim")
      })
    )
  })
).pipe(Command.withDescription("List batches and flows, the newest first"))

const show = Command.make(
  "show",
  { id: batchArgument("batch") },
  Effect.fnUntraced(function* ({ id }) {
    const screen = yield* Screen
    const { batch, members } = yield* connected(
      Effect.flatMap(Batches, (batches) => Effect.all({ batch: batches.get(id), members: batches.members(id) }))
    )
    const field = (name: string, value: string): string => `${screen.paint(name.padEnd(12), "dim")}${line(value)}`
    yield* screen.show(
      { ...toJson(batch), members: members.map((member) => ({ ...member, step: member.step ?? null })) },
      Effect.gen(function* () {
        const [text, paint] = standing(batch)
        yield* screen.print(
          `${screen.paint(`batch ${batch.id}`, "bold")} ${line(batch.name)} ${screen.paint(text, paint)}`,
          field("members", progressOf(batch)),
          field("completed", count(batch.completed)),
          field("discarded", count(batch.discarded)),
          field("cancelled", count(batch.cancelled)),
          ...(batch.parent === undefined ? [] : [field("parent", String(batch.parent))]),
          ...Object.entries(batch.callbacks).map(([occasion, job]) => field(occasion, `job #${job}`))
        )
        if (members.length > 0) {
          yield* screen.print("")
          yield* screen.table(
            [{ title: "JOB", align: "right" }, { title: "STATE" }, { title: "STEP", shrinkTo: 8 }],
            members.map((member) => [String(member.id), [member.state, colorOf(member.state)], member.step ?? "–"])
          )
        }
      })
    )
  })
).pipe(Command.withDescription("Show one batch and its members"))

/**
 * The command.
 *
 * @category commands
 */
export const batches = Command.make("batches").pipe(
  Command.withDescription("List, show, cancel and retry batches and flows"),
  Command.withSubcommands([
    list,
    show,
    retry("batch", "Run the discarded and cancelled members again, also of nested batches"),
    cancel("batch", "Cancel the members that have not ended, also of nested batches")
  ])
)
