/**
 * Statements that the server refuses for a while: all that would write a new row version, as on a disk without room
 * (SQLSTATE 53100; one that is too full for the log ends the server instead, which is what a restart in immediate mode
 * does), or some of them, as those that lose a race with another transaction (40P01, 40001).
 */
import type { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"

const statements = [
  "CREATE TABLE chaos.refusal (code text, message text, share double precision)",
  `CREATE FUNCTION chaos.refuse() RETURNS trigger LANGUAGE plpgsql AS $refuse$
DECLARE
  refusal chaos.refusal;
BEGIN
  FOR refusal IN SELECT * FROM chaos.refusal WHERE share > random() LIMIT 1 LOOP
    RAISE EXCEPTION USING ERRCODE = refusal.code, MESSAGE = refusal.message;
  END LOOP;
  RETURN NULL;
END
$refuse$`,
  ...["jobs", "jobs_archive", "nodes"].map(
    (table) => `CREATE TRIGGER chaos_refuse BEFORE INSERT OR UPDATE OR DELETE ON shigoto.${table}
  FOR EACH STATEMENT EXECUTE FUNCTION chaos.refuse()`
  )
]

/** Makes the server one that can refuse; to be called after the row log is there. */
export const install = (sql: PgClient.PgClient) =>
  Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })

/** No room for a new row version. */
export const fillDisk = (sql: PgClient.PgClient) =>
  sql`INSERT INTO chaos.refusal VALUES ('53100', 'could not extend file: No space left on device', 1)`

/** Of two that meet one loses, by a deadlock or by its isolation: more than one write of a table in four. */
export const race = (sql: PgClient.PgClient) =>
  sql`INSERT INTO chaos.refusal
    VALUES ('40P01', 'deadlock detected', 0.15), ('40001', 'could not serialize access', 0.15)`

/** Takes all of it back. */
export const clear = (sql: PgClient.PgClient) => sql`DELETE FROM chaos.refusal`
