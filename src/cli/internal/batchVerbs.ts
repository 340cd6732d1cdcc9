/** What can be done to batches and flows from the command line. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { Batches, toJson, type BatchStatus } from "../../Batches.ts"
import type { BatchId } from "../../JobRow.ts"
import { confirm } from "./ask.ts"
import { connected } from "./connection.ts"
import { colorOf } from "./jobView.ts"
import { dryRun, yes } from "./options.ts"
import { type Paint, Screen } from "./screen.ts"
import { count, many } from "./text.ts"

/** The operand of commands about one batch or flow. */
export const batchArgument = (what: "batch" | "flow") =>
  Argument.Int("id").pipe(
    Argument.withDescription(`The ${what}'s id`),
    Argument.map((value) => value as BatchId) // an id, under its brand
  )

/** How a batch stands, in one word. */
export const standing = (
  batch: Pick<BatchStatus, "discarded" | "finished" | "outcome"> & { readonly sealed?: boolean }
): readonly [string, Paint | undefined] =>
  batch.finished
    ? [batch.outcome, colorOf(batch.outcome)]
    : [batch.sealed === false ? "open" : "running", batch.discarded > 0 ? "yellow" : "blue"]

/** Runs again what failed. */
export const retry = (what: "batch" | "flow", description: string) =>
  changing(
    what,
    { verb: "retry", done: "retried", description },
    (batch) =>
      `Retry the ${many(batch.discarded + batch.cancelled, "failed member")} of ${what} ${batch.id} (${batch.name})?`,
    (batches, id) => batches.retryFailed(id)
  )

/** Cancels what has not ended. */
export const cancel = (what: "batch" | "flow", description: string) =>
  changing(
    what,
    { verb: "cancel", done: "cancelled or asked to stop", description },
    (batch) => `Cancel the ${many(batch.pending, "open member")} of ${what} ${batch.id} (${batch.name})?`,
    (batches, id) => batches.cancel(id, "by an operator")
  )

/** How far it has come, for people. */
export const progressOf = (batch: Pick<BatchStatus, "pending" | "total">): string =>
  `${count(batch.total - batch.pending)} of ${count(batch.total)} have ended`

// internal

const changing = (
  what: "batch" | "flow",
  { description, done, verb }: { readonly verb: string; readonly done: string; readonly description: string },
  question: (batch: BatchStatus) => string,
  act: (batches: Batches["Service"], id: BatchId) => ReturnType<Batches["Service"]["cancel"]>
) =>
  Command.make(
    verb,
    { id: batchArgument(what), yes, dryRun },
    Effect.fnUntraced(function* ({ dryRun, id, yes }) {
      const screen = yield* Screen
      const changed = yield* connected(
        Effect.gen(function* () {
          const batches = yield* Batches
          const batch = yield* batches.get(id)
          if (dryRun) {
            yield* screen.show({ ...toJson(batch), dryRun }, screen.say(`Would ask: ${question(batch)}`))
            return undefined
          }
          yield* confirm(question(batch), yes)
          return yield* act(batches, id)
        })
      )
      if (changed === undefined) return
      yield* screen.show({ id, changed }, screen.print(`${screen.paint("✓", "green")} ${many(changed, "job")} ${done}`))
    })
  ).pipe(Command.withDescription(description))
