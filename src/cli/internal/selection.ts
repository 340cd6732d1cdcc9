/** Which jobs a command is about: ids, or the text of a filter. */
import * as Argument from "effect/cli/Argument"
import * as Effect from "effect/Effect"
import * as Filter from "../../Filter.ts"
import type { JobId } from "../../JobRow.ts"
import { asksForSecret } from "../../Redaction.ts"
import type { InvalidFilter } from "../../ShigotoError.ts"
import { UsageError } from "./exit.ts"
import { Reveal } from "./options.ts"
import { Screen } from "./screen.ts"

/** The operands of commands about jobs. */
export const jobsArgument = Argument.String("jobs").pipe(
  Argument.withDescription("Ids, or a filter such as worker:send-email state:discarded finished:>1h"),
  Argument.variadic()
)

/** The operand of commands about one job. */
export const idArgument = Argument.Int("id").pipe(
  Argument.withDescription("The job's id"),
  Argument.map((id) => id as JobId) // an id, under its brand
)

/** What was selected. */
export type Selection =
  | { readonly _tag: "Ids"; readonly ids: ReadonlyArray<JobId> }
  | { readonly _tag: "Filter"; readonly filter: Filter.Filter; readonly text: string }

/** Reads operands: all of them ids, or all of them tokens of one filter, which asks for no secret unless `--reveal`. */
export const select = Effect.fnUntraced(function* (
  operands: ReadonlyArray<string>
): Effect.fn.Return<Selection, UsageError | InvalidFilter, Screen | Effect.Services<typeof Reveal>> {
  const ids = operands.filter((operand) => /^#?\d{1,16}$/.test(operand))
  if (operands.length > 0 && ids.length === operands.length) {
    return { _tag: "Ids", ids: [...new Set(ids.map((id) => Number(id.replace("#", "")) as JobId))] } // an id, under its brand
  }
  if (ids.length > 0) {
    return yield* new UsageError({
      message: `Ids and a filter do not go together: ${ids.join(" ")} beside a filter.`,
      hint: "Ask for ids within a filter by id:12,13."
    })
  }
  const text = operands.join(" ")
  const filter = yield* Effect.fromResult(Filter.parse(text))
  // Whether any job matches tells as much as the job would.
  if (!(yield* Reveal) && asksForSecret([filter.args, filter.meta], (yield* Screen).isSecret)) {
    return yield* new UsageError({
      message: "The filter asks for a value that is hidden: to search for a secret is to guess it.",
      hint: "Pass --reveal if you may see it."
    })
  }
  return { _tag: "Filter", filter, text }
})

/** The selection as a filter. */
export const filterOf = (selection: Selection): Filter.Filter =>
  selection._tag === "Ids" ? { id: selection.ids } : selection.filter
