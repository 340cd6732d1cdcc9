/**
 * `shigoto encryption`: under which keys stored values stand, and putting all of them under the newest.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Encryption, type KeyUse, type ReencryptionProgress } from "../Encryption.ts"
import { JobStore } from "../JobStore.ts"
import { confirm } from "./internal/ask.ts"
import { makeBar } from "./internal/bar.ts"
import { connected, connectedWith } from "./internal/connection.ts"
import { exitCodes, Unwell, UsageError } from "./internal/exit.ts"
import { Loaded } from "./internal/load.ts"
import { dryRun, yes } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"
import { count, many } from "./internal/text.ts"

const keys = Command.make(
  "keys",
  {},
  Effect.fnUntraced(function* () {
    const screen = yield* Screen
    const uses = yield* connected(Effect.flatMap(Encryption, (encryption) => encryption.keys))
    const tables = [...new Set(uses.flatMap((use) => Object.keys(use.tables)))]
    yield* screen.showList(
      { name: "keys", items: uses.map((use) => ({ ...use, keyId: use.keyId ?? null })) },
      uses.length === 0
        ? screen.say("No value is stored.")
        : screen.table(
            [
              { title: "KEY", shrinkTo: 10 },
              { title: "VALUES", align: "right" },
              ...tables.map((table, i) => ({
                title: table.toUpperCase(),
                align: "right" as const,
                optional: i + 1
              }))
            ],
            uses.map((use) => [
              use.keyId === undefined ? ["(not encrypted)", "yellow"] : use.keyId,
              count(use.values),
              ...tables.map((table) => count(use.tables[table] ?? 0))
            ])
          )
    )
  })
).pipe(Command.withDescription("Count the stored values under each key; reads every row, a window at a time"))

const reencrypt = Command.make(
  "reencrypt",
  {
    plaintext: Flag.Boolean("plaintext").pipe(
      Flag.withDescription("Encrypt what is in the clear too, which trusts whoever wrote it"),
      Flag.withDefault(false)
    ),
    yes,
    dryRun
  },
  Effect.fnUntraced(function* ({ dryRun, plaintext, yes }) {
    const screen = yield* Screen
    const config = yield* (yield* Loaded).found
    if (config?.cipher === undefined) {
      return yield* new UsageError({
        message: config === undefined ? "There is no config module with a cipher." : "The config module has no cipher.",
        hint: "Give defineConfig a cipher with the new key first and the old one after it; --config names a module."
      })
    }
    const ended = yield* connectedWith(
      config,
      Effect.gen(function* () {
        const encryption = yield* Encryption
        const { keyId: key = "" } = (yield* JobStore).encryption // there is a cipher
        const values = valuesBeside(key, plaintext, yield* encryption.keys)
        if (dryRun) {
          yield* screen.show(
            { key, values, dryRun },
            screen.say(`Would put ${many(values, "value")} under the key ${key}.`)
          )
          return undefined
        }
        if (values > 0) yield* confirm(`Put ${many(values, "value")} under the key ${key}?`, yes)
        const bar = makeBar(screen, "re-encrypting", values)
        const progress = yield* encryption.reencrypt({ plaintext }).pipe(
          Stream.tap(({ changed }) => bar.draw(changed)),
          Stream.runFold(
            (): ReencryptionProgress => ({
              table: "",
              round: 0,
              changed: 0,
              busy: 0,
              unreadable: 0,
              problems: []
            }),
            (_, step) => step
          ),
          Effect.ensuring(bar.end)
        )
        const left = valuesBeside(key, plaintext, yield* encryption.keys)
        const { busy, changed, problems, round, unreadable } = progress
        yield* screen.show(
          { key, changed, left, busy, unreadable, rounds: round, problems },
          Effect.gen(function* () {
            yield* screen.print(
              [
                `${screen.paint(left === 0 ? "✓" : "!", left === 0 ? "green" : "yellow")} ${many(changed, "row")} put under the key ${key}`,
                ...(left === 0 ? [] : [`${many(left, "value")} left under others`]),
                ...(busy === 0 ? [] : [`${count(busy)} in use`]),
                ...(unreadable === 0 ? [] : [`${count(unreadable)} cannot be read`])
              ].join(" · ")
            )
            for (const problem of problems) yield* screen.say(problem, "red")
            if (left > unreadable) yield* screen.say("Run it again once no node encrypts with another key.")
          })
        )
        return left
      })
    )
    if (ended !== undefined && ended > 0) return yield* new Unwell({ code: exitCodes.failure })
  })
).pipe(
  Command.withDescription(
    "Put every stored value under the first key of the config module's cipher; exit code 1 where some are left"
  ),
  Command.withExamples([
    { command: "shigoto encryption reencrypt --dry-run", description: "How many there are" },
    { command: "shigoto encryption reencrypt --yes", description: "After a new key has become the first everywhere" }
  ])
)

/**
 * The command.
 *
 * @category commands
 */
export const encryption = Command.make("encryption").pipe(
  Command.withDescription("Count stored values by key, and put them under a new one"),
  Command.withSubcommands([keys, reencrypt])
)

// internal

/** How many values are not under the key, those in the clear only where they are meant. */
const valuesBeside = (key: string, plaintext: boolean, uses: ReadonlyArray<KeyUse>): number =>
  uses.reduce((sum, use) => (use.keyId === key || (use.keyId === undefined && !plaintext) ? sum : sum + use.values), 0)
