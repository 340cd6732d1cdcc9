/**
 * `shigoto doctor`: what is wrong with the database, the way to it, and the fleet, and what to do.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { diagnose, type Finding } from "../Doctor.ts"
import { type HealthReason, tell } from "../Health.ts"
import { Jobs } from "../Jobs.ts"
import { connected, target, withDatabase } from "./internal/connection.ts"
import { exitCodes, Unwell } from "./internal/exit.ts"
import { type Paint, Screen } from "./internal/screen.ts"
import { line, many } from "./internal/text.ts"

/**
 * The command.
 *
 * @category commands
 */
export const doctor = Command.make(
  "doctor",
  {
    fixSql: Flag.Boolean("fix-sql").pipe(
      Flag.withDescription("Print the SQL that mends what SQL can mend, and run nothing"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ fixSql }) {
    const screen = yield* Screen
    const { shown } = yield* target
    const below = yield* withDatabase(diagnose)
    // The fleet can be asked only where its tables are.
    const hasTables = below.some(({ check, status }) => check === "schema" && status === "ok")
    const above = hasTables
      ? yield* connected(Effect.flatMap(Jobs, (jobs) => Effect.map(jobs.health, fleetFindings)))
      : []
    const findings = [...below, ...above]
    const of = (status: Finding["status"]) => findings.filter((one) => one.status === status).length
    const verdict = of("problem") > 0 ? "problem" : of("warning") > 0 ? "warning" : "ok"
    const wide = Math.max(...findings.map(({ check }) => check.length))
    yield* screen.showList(
      {
        name: "findings",
        items: findings.map((one) => ({ ...one, advice: one.advice ?? null, sql: one.sql ?? null })),
        more: { status: verdict }
      },
      Effect.gen(function* () {
        if (fixSql) {
          const mends = findings.filter(({ sql }) => sql !== undefined)
          if (mends.length === 0) return yield* screen.say("There is nothing here that SQL can mend.")
          return yield* screen.write(
            mends.map(({ message, sql }) => `-- ${line(message)}\n${sql ?? ""}`).join("\n") // those that have some
          )
        }
        yield* screen.print(
          ...findings.flatMap(({ advice, check, message, status }) => [
            `${screen.paint(marks[status][0], marks[status][1])} ${screen.paint(check.padEnd(wide), "dim")} ${line(message)}`,
            ...(advice === undefined ? [] : [`${" ".repeat(wide + 3)}→ ${line(advice)}`])
          ])
        )
        yield* screen.say(
          verdict === "ok"
            ? `${shown} is well.`
            : `${shown}: ${many(of("problem"), "problem")}, ${many(of("warning"), "warning")}.`,
          marks[verdict][1]
        )
      })
    )
    if (verdict === "problem") return yield* new Unwell({ code: exitCodes.failure })
  })
).pipe(
  Command.withDescription(
    "Look for what is wrong, and say what to do; exit code 1 where something keeps jobs from running"
  ),
  Command.withExamples([
    { command: "shigoto doctor --fix-sql > mend.sql", description: "What to do as SQL, for who has the rights" }
  ])
)

// internal

const marks: Readonly<Record<Finding["status"], readonly [string, Paint]>> = {
  ok: ["✓", "green"],
  warning: ["!", "yellow"],
  problem: ["✗", "red"]
}

const fleetFindings = ({ reasons }: { readonly reasons: ReadonlyArray<HealthReason> }): ReadonlyArray<Finding> =>
  reasons.length === 0
    ? [{ check: "jobs", status: "ok", message: "Jobs flow.", advice: undefined }]
    : reasons.map((reason) => ({
        check: "jobs",
        status: problems.has(reason._tag) ? "problem" : "warning",
        message: tell(reason),
        advice: advice(reason)
      }))

/** What keeps some jobs from running at all. */
const problems: ReadonlySet<HealthReason["_tag"]> = new Set<HealthReason["_tag"]>([
  "DatabaseUnavailable",
  "DatabaseReadOnly",
  "NoNode",
  "QueueWithoutNode",
  "WorkerWithoutNode",
  "DueJobs"
])

const advice = (reason: HealthReason): string | undefined => {
  switch (reason._tag) {
    case "NoNode":
      return "Start a node: your application with ShigotoLive, or shigoto work."
    case "QueueWithoutNode":
      return `Give a node this queue in ShigotoConfig.queues, or: shigoto work --queues ${reason.queue}`
    case "WorkerWithoutNode":
      return "Deploy a node that has it, or cancel its jobs: it may have been renamed."
    case "StaleJobs":
      return "They run again within seconds of a live node's next look. Start one if there is none."
    case "NodeSilent":
      return "Look at that process: it may be blocked, paused, or cut off from the database."
    case "OldJob":
      return "Give the queue more slots (shigoto queues scale) or nodes; shigoto jobs show <id> says what one waits for."
    case "LongTransaction":
      return reason.pid === undefined
        ? "Commit or roll back the prepared transaction."
        : `Find out what it does, or end it with pg_terminate_backend(${reason.pid})`
    case "NotificationQueue":
      return "End the session that listens and sits in a transaction."
    case "NotListening":
      return "Behind a pooler in transaction mode, set ShigotoConfig.listenUrl to a direct URL, or listen to false."
    default:
      return undefined
  }
}
