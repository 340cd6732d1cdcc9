/**
 * `shigoto failures`: jobs that failed alike, and running a whole group again.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Jobs } from "../Jobs.ts"
import { hidden } from "../Redaction.ts"
import { change } from "./internal/change.ts"
import { connected } from "./internal/connection.ts"
import { NotFound } from "./internal/exit.ts"
import { readDuration } from "./internal/moment.ts"
import { dryRun, int, yes } from "./internal/options.ts"
import { type Cell, Screen } from "./internal/screen.ts"
import * as shapes from "./internal/shapes.ts"
import { count, relative } from "./internal/text.ts"
import { retryVerb } from "./internal/verbs.ts"

const limit = int("limit", 1, 1000).pipe(
  Flag.withAlias("n"),
  Flag.withDescription("How many groups at most, up to 1000"),
  Flag.withDefault(20)
)

const since = Flag.String("since").pipe(
  Flag.withMetavar("<duration>"),
  Flag.withDescription("Only groups that have failed within this time, such as 1h"),
  Flag.optional
)

const listGroups = Effect.fnUntraced(function* ({
  limit,
  since
}: {
  readonly limit: number
  readonly since: Option.Option<string>
}) {
  const screen = yield* Screen
  const within = Option.isSome(since) ? Duration.toMillis(yield* readDuration("since", since.value)) : Infinity
  const now = (yield* DateTime.now).epochMilliseconds
  const groups = yield* connected(
    Effect.gen(function* () {
      const jobs = yield* Jobs
      // A time is asked of every group there is: the first ones are those of the newest jobs, not of the latest failures.
      const all = yield* jobs.failures({ limit: within === Infinity ? limit : 1000 })
      const recent = all.filter(({ lastSeen }) => lastSeen.epochMilliseconds >= now - within).slice(0, limit)
      return yield* Effect.forEach(recent, (group) =>
        Effect.gen(function* () {
          // The group's message quotes its newest job, so that job says what is secret; one that is gone hides it all.
          const sample = Option.getOrUndefined(yield* Effect.option(jobs.get(group.sample)))
          const message = sample === undefined ? hidden : screen.redactText(sample)(group.failure.message)
          return shapes.failureGroup(group, message)
        })
      )
    })
  )
  yield* screen.showList(
    { name: "failures", items: groups },
    groups.length === 0
      ? screen.say(
          Option.isSome(since) ? "Nothing has failed within that time." : "No job has failed and not succeeded since."
        )
      : screen.table(
          [
            { title: "GROUP" },
            { title: "JOBS", align: "right" },
            { title: "WORKER", shrinkTo: 8 },
            { title: "LAST", align: "right", optional: 1 },
            { title: "SAMPLE", align: "right", optional: 2 },
            { title: "FAILURE", shrinkTo: 12 }
          ],
          groups.map((group): ReadonlyArray<Cell> => [
            group.fingerprint,
            [`${count(group.count)}${group.isExact ? "" : "+"}`, "red"],
            group.worker,
            group.lastSeen === null
              ? "–"
              : screen.isTerminal
                ? relative(Date.parse(group.lastSeen), now)
                : group.lastSeen,
            `#${group.sample}`,
            `${group.tag}: ${group.message}`
          ])
        )
  )
})

const list = Command.make("list", { limit, since }, listGroups).pipe(
  Command.withDescription("List the groups, the one with the newest job first")
)

const retry = Command.make(
  "retry",
  {
    group: Argument.String("group").pipe(Argument.withDescription("The group's name, as the list tells it")),
    yes,
    dryRun
  },
  Effect.fnUntraced(function* ({ group, ...given }) {
    const filter = { fingerprint: group }
    const found = yield* connected(Effect.flatMap(Jobs, (jobs) => jobs.count(filter)))
    if (found.count === 0)
      return yield* new NotFound({ message: `There is no group of failures ${JSON.stringify(group)}.` })
    yield* change(retryVerb, { _tag: "Filter", filter, text: `fingerprint:${group}` }, { ...given, all: false })
  })
).pipe(Command.withDescription("Run the retryable and discarded jobs of a group again"))

/**
 * The command.
 *
 * @category commands
 */
export const failures = Command.make("failures", { limit, since }, listGroups).pipe(
  Command.withDescription("Group failed jobs by what went wrong, and retry a group"),
  Command.withSubcommands([list, retry])
)
