/** The store's verbs that tell and change under which keys values stand. */
import * as Effect from "effect/Effect"
import type { Db } from "../sql/db.ts"
import * as reencrypt from "../sql/reencrypt.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const encryptionVerbs = (db: Db, { background }: Runner) => ({
  /** The key that encrypts; undefined where there is no cipher. */
  keyId: db.cipher?.keyId,
  /** Values by key, in the next window of a table. */
  count: (table: reencrypt.Table, after: reencrypt.Position | undefined) =>
    background("encryption")(reencrypt.count(db, table, after)),
  /** Rows to write, in the next window of a table. */
  find: (table: reencrypt.Table, after: reencrypt.Position | undefined, wanted: Wanted) =>
    background("encryption")(reencrypt.find(db, table, after, wanted)),
  /** Writes rows under the first key. */
  rewrite: (table: reencrypt.Table, rows: ReadonlyArray<reencrypt.Position>, wanted: Wanted) =>
    background("encryption")(Effect.suspend(() => reencrypt.rewrite(db, table, rows, wanted)))
})

/** The verbs. */
export type EncryptionVerbs = ReturnType<typeof encryptionVerbs>

// internal

interface Wanted {
  /** The key under which values are to stand. */
  readonly keyId: string
  /** Whether those under none are meant too. */
  readonly plaintext: boolean
}
