/**
 * PostgreSQL's own pgbench on the table of "raw SQL": what the server gives to a client in C that does nothing else.
 *
 * The same statements and batches as `peers/raw.ts`, prepared, over as many connections as a producer or worker of the
 * workload has work in flight: 50 single inserts, one or four bulk inserts, two lanes of claims in each process.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { inDatabase, type Postgres } from "./postgres.ts"
import { claimBatch, tables } from "./peers/raw.ts"

const run = promisify(execFile)

/** The program beside the server's, on the PATH, or of an installation of Debian; undefined where there is none. */
export const find = (bin: string | undefined): string | undefined => {
  const debian = "/usr/lib/postgresql"
  const installed = existsSync(debian) ? readdirSync(debian).map((version) => join(debian, version, "bin")) : []
  const folders = [...(bin === undefined ? [] : [bin]), ...(process.env.PATH ?? "").split(":"), ...installed]
  return folders.map((folder) => join(folder, "pgbench")).find(existsSync)
}

export const versionOf = async (program: string): Promise<string> =>
  /(\d+[.\d]*)/.exec((await run(program, ["--version"])).stdout)?.[1] ?? "?"

interface Script {
  readonly text: string
  readonly clients: number
  /** Jobs of one transaction. */
  readonly jobs: number
  /** Jobs that lie ready before it starts. */
  readonly backlog: number
}

const args = `'{"i": 12345, "t": 1234567890.123}'::jsonb`

const bulk = (clients: number): Script => ({
  text: `INSERT INTO raw_jobs (args) SELECT ${args} FROM generate_series(1, 1000) RETURNING id;`,
  clients,
  jobs: 1000,
  backlog: 0
})

/** As many rounds of full batches for each client as come closest to 50,000 jobs. */
const whole = (clients: number): number => Math.round(50_000 / claimBatch / clients) * claimBatch * clients

const drain = (processes: number): Script => ({
  text: [
    `WITH chosen AS MATERIALIZED (
       SELECT id FROM raw_jobs WHERE state = 'available' ORDER BY run_at, id LIMIT ${claimBatch} FOR UPDATE SKIP LOCKED
     ), claimed AS (
       UPDATE raw_jobs AS j SET state = 'executing' FROM chosen WHERE j.id = chosen.id RETURNING j.id
     )
     SELECT coalesce(array_agg(id), '{}')::text AS ids FROM claimed \\gset`,
    "DELETE FROM raw_jobs WHERE id = ANY(:ids::bigint[]);"
  ].join("\n"),
  clients: 2 * processes,
  jobs: claimBatch,
  backlog: whole(2 * processes)
})

/** The workloads that pgbench has an equivalent of. */
const scripts: Readonly<Record<string, Script>> = {
  singles: { text: `INSERT INTO raw_jobs (args) VALUES (${args}) RETURNING id;`, clients: 50, jobs: 1, backlog: 0 },
  bulk: bulk(1),
  "bulk-4": bulk(4),
  drain: drain(1),
  "drain-4": drain(4)
}

export const workloads: ReadonlyArray<string> = Object.keys(scripts)

/** Jobs per second of a workload's script on an empty database. */
export const measure = async (
  program: string,
  workload: string,
  { quick, postgres, url }: { readonly quick: boolean; readonly postgres: Postgres; readonly url: string }
): Promise<Readonly<Record<string, number>>> => {
  const script = scripts[workload]
  if (script === undefined) throw new Error(`pgbench has nothing like ${workload}`)
  for (const table of tables) await inDatabase(url, table)
  if (script.backlog > 0) {
    await inDatabase(url, `INSERT INTO raw_jobs (args) SELECT ${args} FROM generate_series(1, ${script.backlog})`)
    await inDatabase(url, "ANALYZE")
  }
  await postgres.query("CHECKPOINT")
  const folder = mkdtempSync(join(tmpdir(), "shigoto-bench-pgbench-"))
  try {
    const file = join(folder, "script.sql")
    writeFileSync(file, `${script.text}\n`)
    const until =
      script.backlog > 0 ? ["-t", `${script.backlog / script.jobs / script.clients}`] : ["-T", quick ? "1" : "5"]
    const flags = ["-n", "-M", "prepared", "-c", `${script.clients}`, "-j", "2", "-f", file]
    const target = new URL(url)
    const { stdout } = await run(program, [...flags, ...until, target.pathname.slice(1)], {
      env: {
        ...process.env,
        PGHOST: target.searchParams.get("host") ?? target.hostname,
        PGPORT: target.port,
        PGUSER: target.username,
        PGPASSWORD: decodeURIComponent(target.password)
      }
    })
    const perSecond = Number(/tps = ([\d.]+) \(without/.exec(stdout)?.[1])
    return { rate: perSecond * script.jobs }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
