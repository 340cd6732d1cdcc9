/**
 * A disk without room, as the library sees it: while it lasts, whatever would write a new row version fails with
 * SQLSTATE 53100, as a server does that cannot extend a file. A disk that is too full for the log ends the server
 * instead, which is what a restart in immediate mode does.
 */
import type { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"

const statements = [
  "CREATE TABLE chaos.disk_full (since timestamptz)",
  `CREATE FUNCTION chaos.refuse_row() RETURNS trigger LANGUAGE plpgsql AS $full$
BEGIN
  IF EXISTS (SELECT FROM chaos.disk_full) THEN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
  END IF;
  RETURN NULL;
END
$full$`,
  ...["jobs", "jobs_archive", "nodes"].map(
    (table) => `CREATE TRIGGER chaos_disk_full BEFORE INSERT OR UPDATE ON shigoto.${table}
  FOR EACH STATEMENT EXECUTE FUNCTION chaos.refuse_row()`
  )
]

/** Makes the disk one that can be full; to be called after the row log is there. */
export const install = (sql: PgClient.PgClient) =>
  Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })

export const fill = (sql: PgClient.PgClient) => sql`INSERT INTO chaos.disk_full VALUES (now())`

export const clear = (sql: PgClient.PgClient) => sql`DELETE FROM chaos.disk_full`
