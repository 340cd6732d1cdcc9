/**
 * Under which keys stored values stand, and the way to put all of them under the newest.
 *
 * A re-encryption holds nothing between two chunks and writes a row only while it is what was read: it may be stopped
 * and run again at any time, by several at once, beside nodes that work. What it cannot read it leaves as it is.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type Position, type Table, tables } from "./internal/sql/reencrypt.ts"
import { JobStore } from "./JobStore.ts"
import { InvalidConfig, type StorageFailure } from "./ShigotoError.ts"

/**
 * How many stored values stand under a key.
 *
 * @category models
 */
export interface KeyUse {
  /** The key's id; undefined for values that are not encrypted. */
  readonly keyId: string | undefined
  readonly values: number
  /** The same by table. */
  readonly tables: Readonly<Record<string, number>>
}

/**
 * How far a re-encryption has come; the last one tells the whole.
 *
 * @category models
 */
export interface ReencryptionProgress {
  /** The table that it is in. */
  readonly table: string
  /** Which time it goes through the tables, from 1: until nothing was left to do, and at most five times. */
  readonly round: number
  /** Rows written under the first key, in all rounds. */
  readonly changed: number
  /** Rows of this round that others held or had changed; the next round meets them again. */
  readonly busy: number
  /** Values of this round that could not be read; they are left as they are. */
  readonly unreadable: number
  /** The first twenty of those, each by what is wrong with it. */
  readonly problems: ReadonlyArray<string>
}

/**
 * What to re-encrypt.
 *
 * @category models
 */
export interface ReencryptOptions {
  /** Whether values that are not encrypted are encrypted too. Defaults to false. */
  readonly plaintext?: boolean | undefined
}

/**
 * The keys of stored values.
 *
 * @category services
 */
export class Encryption extends Context.Service<
  Encryption,
  {
    /** The keys that stored values stand under, most used first; reads every row, a window at a time. */
    readonly keys: Effect.Effect<ReadonlyArray<KeyUse>, StorageFailure>
    /** Puts every value under the first of the cipher's keys, and tells after each chunk how far it has come. */
    readonly reencrypt: (
      options?: ReencryptOptions
    ) => Stream.Stream<ReencryptionProgress, InvalidConfig | StorageFailure>
  }
>()("effect-shigoto/Encryption") {}

/**
 * Provides the control over keys; re-encrypts where the store has a cipher.
 *
 * @category layers
 */
export const layer: Layer.Layer<Encryption, never, JobStore> = Layer.effect(
  Encryption,
  Effect.map(JobStore, ({ encryption: store }) =>
    Encryption.of({
      keys: Effect.gen(function* () {
        const uses = new Map<string, { values: number; readonly tables: Record<string, number> }>()
        for (const table of tables) {
          let after: Position | undefined
          let more = true
          while (more) {
            const window = yield* store.count(table, after)
            for (const { count, key } of window.counts) {
              const use = uses.get(key) ?? { values: 0, tables: {} }
              use.values += count
              use.tables[table] = (use.tables[table] ?? 0) + count
              uses.set(key, use)
            }
            after = window.after
            more = window.more
          }
        }
        return [...uses]
          .map(([key, use]) => ({ keyId: key === "" ? undefined : key, ...use }))
          .toSorted((a, b) => b.values - a.values)
      }),
      reencrypt: ({ plaintext = false } = {}) => {
        const { keyId } = store
        if (keyId === undefined) return Stream.fail(noCipher)
        const wanted = { keyId, plaintext }
        const step = Effect.fnUntraced(function* (from: State) {
          let { after, at, found, more } = from
          while (found.length === 0 && (more || at + 1 < tables.length)) {
            if (!more) {
              at++
              after = undefined
            }
            const window = yield* store.find(tableAt(at), after, wanted)
            found = window.found
            after = window.after ?? after
            more = window.more
          }
          const table = tableAt(at)
          const { busy, changed, unreadable } = yield* store.rewrite(table, found.slice(0, chunkSize), wanted)
          const before = from.progress
          const progress: ReencryptionProgress = {
            table,
            round: before.round,
            changed: before.changed + changed,
            busy: before.busy + busy,
            unreadable: before.unreadable + unreadable.length,
            problems: [...before.problems, ...unreadable.map(({ problem }) => problem.message)].slice(0, 20)
          }
          const rest = found.slice(chunkSize)
          if (rest.length > 0 || more || at + 1 < tables.length) {
            return [[progress], Option.some<State>({ ...from, at, after, found: rest, more, progress })] as const
          }
          // Jobs move between tables: only a round that had nothing to do has seen to all of them.
          const again = progress.changed > from.changedBefore || progress.busy > 0
          return [
            [progress],
            again && progress.round < maxRounds ? Option.some(nextRound(progress)) : Option.none<State>()
          ] as const
        })
        return Stream.paginate<State, ReencryptionProgress, StorageFailure>(
          nextRound({ table: tableAt(0), round: 0, changed: 0, busy: 0, unreadable: 0, problems: [] }),
          step
        )
      }
    })
  )
)

// internal

interface State {
  /** The table, by its position. */
  readonly at: number
  /** Where the next window begins. */
  readonly after: Position | undefined
  /** What the last window found and nobody has seen to yet. */
  readonly found: ReadonlyArray<Position>
  readonly more: boolean
  /** How many rows had been written as the round began. */
  readonly changedBefore: number
  readonly progress: ReencryptionProgress
}

/** The rows of one statement. */
const chunkSize = 200

const maxRounds = 5

const tableAt = (at: number): Table => tables[at] as Table // never beyond the last one

const nextRound = (progress: ReencryptionProgress): State => ({
  at: 0,
  after: undefined,
  found: [],
  more: true,
  changedBefore: progress.changed,
  progress: { ...progress, round: progress.round + 1, busy: 0, unreadable: 0, problems: [] }
})

const noCipher = new InvalidConfig({
  field: "cipher",
  value: "none",
  message: "There is no cipher to encrypt with: provide Cipher.layerAesGcm under the layer that re-encrypts."
})
