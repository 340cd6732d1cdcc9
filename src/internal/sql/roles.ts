/** Who may do what in the schema: roles, and no more rights than each one's part needs. */
import { identifier, literal } from "./quote.ts"

/** The parts that a role may have. */
export const parts = ["owner", "worker", "operator", "producer", "viewer"] as const

/** What a role does. */
export type Part = (typeof parts)[number]

/** The statement that makes a role which nobody logs in as, unless it is there. */
export const creation = (role: string): string =>
  block([
    `IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ${literal(role)}) THEN`,
    `  CREATE ROLE ${identifier(role)} NOLOGIN;`,
    `END IF;`
  ])

/** The statements that give a role no more than its part needs. */
export const grants = (schema: string, part: Part, role: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  const to = `TO ${identifier(role)}`
  const base = [`GRANT USAGE ON SCHEMA ${s} ${to}`, `GRANT SELECT ON ${s}.migrations ${to}`]
  const reads = [
    ...base,
    `GRANT SELECT ON ALL TABLES IN SCHEMA ${s} ${to}`,
    // A look at many jobs ends at the newest that was there.
    `GRANT SELECT ON ALL SEQUENCES IN SCHEMA ${s} ${to}`
  ]
  switch (part) {
    case "owner":
      return [ownership(schema, role)]
    case "worker":
      return [
        ...base,
        `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${s} ${to}`,
        `REVOKE INSERT, UPDATE, DELETE ON ${s}.migrations FROM ${identifier(role)}`,
        `GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ${s} ${to}`,
        `GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ${s} ${to}`
      ]
    case "operator":
      return [
        ...reads,
        ...operated.map((table) => `GRANT INSERT, UPDATE, DELETE ON ${s}.${table} ${to}`),
        `GRANT INSERT, UPDATE ON ${s}.audit ${to}`,
        ...["jobs_id_seq", "batches_id_seq", "audit_id_seq"].map(
          (name) => `GRANT USAGE ON SEQUENCE ${s}.${name} ${to}`
        ),
        `GRANT EXECUTE ON FUNCTION ${s}.enqueue ${to}`
      ]
    case "producer":
      return [
        ...base,
        `GRANT USAGE ON SEQUENCE ${s}.jobs_id_seq ${to}`,
        `GRANT EXECUTE ON FUNCTION ${s}.enqueue, ${s}.enqueue_jobs ${to}`
      ]
    case "viewer":
      return reads
  }
}

// internal

/** What is changed by those who look after jobs and run none: not leases, limits, circuits and schemas of args. */
const operated = [
  "jobs",
  "jobs_archive",
  "dependencies",
  "batches",
  "results",
  "unique_keys",
  "logs",
  "queues",
  "partitions",
  "cron",
  "cron_ticks"
]

/** Hands the schema and everything in it to a role, so that members of it migrate and nobody else has to. */
const ownership = (schema: string, role: string): string =>
  block(
    [
      `ALTER SCHEMA ${identifier(schema)} OWNER TO ${identifier(role)};`,
      `FOR part IN`,
      `  SELECT format('ALTER TABLE %I.%I OWNER TO %I', ${literal(schema)}, c.relname, ${literal(role)}) AS change`,
      `  FROM pg_catalog.pg_class AS c`,
      `  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace`,
      `  WHERE n.nspname = ${literal(schema)} AND c.relkind IN ('r', 'p', 'v')`,
      `  UNION ALL`,
      `  SELECT format('ALTER FUNCTION %I.%I(%s) OWNER TO %I', ${literal(schema)}, p.proname,`,
      `    pg_catalog.pg_get_function_identity_arguments(p.oid), ${literal(role)})`,
      `  FROM pg_catalog.pg_proc AS p`,
      `  JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace`,
      `  WHERE n.nspname = ${literal(schema)}`,
      `LOOP`,
      `  EXECUTE part.change;`,
      `END LOOP;`
    ],
    "part record;"
  )

/** A statement that decides; its text is a literal, so that no name can end it. */
const block = (lines: ReadonlyArray<string>, declares = ""): string =>
  `DO ${literal([declares === "" ? "" : `DECLARE ${declares} `, "BEGIN\n", ...lines.map((line) => `  ${line}\n`), "END"].join(""))}`
