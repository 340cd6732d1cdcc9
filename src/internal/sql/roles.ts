/** Who may do what in the schema: grants for roles that are there. */

/** The statements that give a role no more than its part needs; names are quoted here. */
export const grants = (schema: string, part: "worker" | "producer" | "viewer", role: string): ReadonlyArray<string> => {
  const s = `"${schema}"`
  const to = `TO "${role.replaceAll(`"`, `""`)}"`
  const base = [`GRANT USAGE ON SCHEMA ${s} ${to}`, `GRANT SELECT ON ${s}.migrations ${to}`]
  switch (part) {
    case "worker":
      return [
        ...base,
        `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${s} ${to}`,
        `REVOKE INSERT, UPDATE, DELETE ON ${s}.migrations FROM ${to.slice(3)}`,
        `GRANT USAGE ON ALL SEQUENCES IN SCHEMA ${s} ${to}`,
        `GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ${s} ${to}`
      ]
    case "producer":
      return [
        ...base,
        `GRANT INSERT, SELECT (id, state, run_at, inserted_at) ON ${s}.jobs ${to}`,
        `GRANT USAGE ON SEQUENCE ${s}.jobs_id_seq ${to}`,
        `GRANT EXECUTE ON FUNCTION ${s}.enqueue ${to}`
      ]
    case "viewer":
      return [...base, `GRANT SELECT ON ALL TABLES IN SCHEMA ${s} ${to}`]
  }
}
