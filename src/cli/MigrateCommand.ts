/**
 * `shigoto migrate`: the tables, brought up to date, looked at, or as SQL for those who run it by hand.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Migrations from "../Migrations.ts"
import * as ShigotoConfig from "../ShigotoConfig.ts"
import { target, withDatabase } from "./internal/connection.ts"
import { exitCodes, Unwell, UsageError } from "./internal/exit.ts"
import { dryRun, SchemaName } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"
import { line, many } from "./internal/text.ts"

const runPending = Effect.fnUntraced(function* ({ dryRun }: { readonly dryRun: boolean }) {
  const screen = yield* Screen
  const { schema, ...where } = yield* target
  const shown = line(where.shown)
  const { applied, found } = yield* withDatabase(
    Effect.gen(function* () {
      const found = yield* Migrations.installed
      return { found, applied: dryRun ? [] : yield* Migrations.run }
    })
  )
  const steps = Migrations.migrations.filter(({ version }) => (dryRun ? version > found : applied.includes(version)))
  yield* screen.show(
    {
      schema,
      found,
      latest: Migrations.latest,
      [dryRun ? "pending" : "applied"]: steps.map(({ name, version }) => ({ version, name }))
    },
    Effect.gen(function* () {
      yield* screen.print(
        ...steps.map((step) => `${screen.paint(dryRun ? "·" : "✓", dryRun ? "dim" : "green")} ${label(step)}`)
      )
      yield* screen.print(
        dryRun
          ? `${shown}: schema ${schema} is at version ${found}; ${many(steps.length, "step")} would run.`
          : `${shown}: schema ${schema} is at version ${Math.max(found, Migrations.latest)} (${steps.length === 0 ? "nothing to do" : `${many(steps.length, "step")} applied`}).`
      )
    })
  )
})

const up = Command.make("up", { dryRun }, runPending).pipe(
  Command.withDescription("Run the pending steps; safe to run from several places at once")
)

const status = Command.make(
  "status",
  {},
  Effect.fnUntraced(function* () {
    const screen = yield* Screen
    const { schema } = yield* target
    const found = yield* withDatabase(Migrations.installed)
    yield* screen.show(
      {
        schema,
        found,
        latest: Migrations.latest,
        steps: Migrations.migrations.map(({ name, version }) => ({ version, name, applied: version <= found }))
      },
      Effect.gen(function* () {
        yield* screen.table(
          [{ title: "STEP" }, { title: "STATUS" }],
          Migrations.migrations.map((step) => [
            label(step),
            step.version <= found ? ["applied", "green"] : ["pending", "yellow"]
          ])
        )
        if (found < Migrations.latest) yield* screen.say("Run: shigoto migrate")
      })
    )
    if (found < Migrations.latest) return yield* new Unwell({ code: exitCodes.schema })
  })
).pipe(Command.withDescription("Show which steps the database has; exit code 4 where some are missing"))

const print = Command.make(
  "print",
  {
    from: Flag.Int("from").pipe(
      Flag.withDescription("Leave out the steps up to this version; 0 for none"),
      Flag.withDefault(0)
    )
  },
  Effect.fnUntraced(function* ({ from }) {
    const screen = yield* Screen
    const schema = yield* schemaName
    const sql = yield* written(() => Migrations.print(schema, from))
    yield* screen.show({ schema, from, latest: Migrations.latest, sql }, screen.write(sql))
  })
).pipe(Command.withDescription("Print the SQL of the steps; needs no database"))

const grants = Command.make(
  "grants",
  {
    role: Argument.String("role").pipe(Argument.withDescription("A role of the server")),
    part: Flag.Literals("part", ["owner", "worker", "operator", "producer", "viewer"]).pipe(
      Flag.withDescription("What the role does: migrates, runs nodes, looks after jobs, enqueues, or looks")
    ),
    create: Flag.Boolean("create").pipe(
      Flag.withDescription("Also make the role, without a login, where it is not there"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ create, part, role }) {
    const screen = yield* Screen
    const schema = yield* schemaName
    const writes = create ? Migrations.printRoles : Migrations.printGrants
    const sql = yield* written(() => writes(schema, { [part]: role }))
    yield* screen.show({ schema, part, role, sql }, screen.write(sql))
  })
).pipe(Command.withDescription("Print the SQL that gives a role no more than its part needs; needs no database"))

/**
 * The command.
 *
 * @category commands
 */
export const migrate = Command.make("migrate", { dryRun }, runPending).pipe(
  Command.withDescription("Bring the tables up to date (up), or show what that would take"),
  Command.withSubcommands([up, status, print, grants])
)

// internal

const label = ({ name, version }: Migrations.Migration): string => `${String(version).padStart(4, "0")}_${name}`

const schemaName = Effect.gen(function* () {
  const flag = yield* SchemaName
  return Option.getOrElse(flag, () => process.env["SHIGOTO_SCHEMA"] ?? ShigotoConfig.defaults.schema)
})

/** An unusable schema is thrown by what writes SQL. */
const written = (write: () => string): Effect.Effect<string, UsageError> =>
  Effect.try({ try: write, catch: (error) => new UsageError({ message: (error as Error).message }) }) // what Node throws
