/** One change for all jobs that match: seen before, confirmed where it is large, done in the background, followed. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query"
import { useState } from "react"
import { type Operation, post, type Preview, Refused } from "./api.ts"
import { Action, Commands, Dialog, word } from "./action.tsx"
import { jobsLink, number, Parts, State, useCan, useGet } from "./kit.tsx"

export type BulkAction = "retry" | "cancel" | "delete"

/** What a button for it says. */
export const verbs: Readonly<Record<BulkAction, string>> = { retry: "Retry", cancel: "Cancel", delete: "Delete" }

export const Bulk = (props: { readonly action: BulkAction; readonly q: string; readonly onClose: () => void }) => {
  const { action, onClose, q } = props
  const client = useQueryClient()
  const [typed, setTyped] = useState("")
  const preview = useQuery({
    queryKey: ["preview", action, q],
    queryFn: () => post<Preview>(`operations/${action}/preview`, { q }),
    gcTime: 0
  })
  const start = useMutation({
    mutationFn: (token: string) =>
      post<Operation>(`operations/${action}`, { q, token, ...(typed !== "" && { confirm: typed }) }),
    onSuccess: () => {
      onClose()
      return client.invalidateQueries()
    },
    // More match now than were seen: look again.
    onError: (error) => (error instanceof Refused && error.status === 409 ? preview.refetch() : undefined)
  })
  const seen = preview.data
  const count = seen === undefined ? "…" : `${number(seen.count)}${seen.isExact ? "" : " or more"}`
  return (
    <Dialog title={`${verbs[action]} ${count} jobs?`} onClose={onClose}>
      {preview.error !== null && <p role="alert">{preview.error.message}</p>}
      {start.error !== null && <p role="alert">{start.error.message}</p>}
      {seen !== undefined && (
        <form
          onSubmit={(event) => {
            event.preventDefault()
            start.mutate(seen.token)
          }}
        >
          <p className="dim">
            All that match <code>{q === "" ? "anything" : q}</code>, such as
          </p>
          <ul className="plain">
            {seen.sample.map((job) => (
              <li key={job.id}>
                #{job.id} {job.worker} <State state={job.state} />
              </li>
            ))}
          </ul>
          {seen.confirm !== null && (
            <label>
              Type <b>{seen.confirm}</b> to go on{" "}
              <input value={typed} onChange={(event) => setTyped(event.target.value)} autoComplete="off" />
            </label>
          )}
          <Commands lines={[`shigoto jobs ${action} ${word(q)} --all`]} />
          <p className="row">
            <button
              type="submit"
              className={action === "retry" ? "primary" : "danger"}
              disabled={start.isPending || seen.count === 0 || (seen.confirm !== null && typed !== seen.confirm)}
            >
              {verbs[action]} {count}
            </button>
            <button type="button" onClick={onClose}>
              Leave them
            </button>
          </p>
        </form>
      )}
    </Dialog>
  )
}

/** Operations that run, and the last that ended. */
export const Operations = () => {
  const can = useCan()
  const operations = useGet("operations", "operations")
  const [newest, ...others] = operations.data ?? []
  const shown = [...(newest === undefined ? [] : [newest]), ...others.filter(({ state }) => state === "running")]
  if (shown.length === 0) return null
  return (
    <ul className="operations" aria-label="Operations">
      {shown.map((operation) => (
        <li key={operation.id}>
          <span>
            <b>{operation.action}</b> of{" "}
            <a href={jobsLink(operation.q)}>
              <code>{operation.q === "" ? "all" : operation.q}</code>
            </a>{" "}
            by {operation.user}: {operation.state}
          </span>
          <Parts
            label={`Operation ${operation.id}`}
            parts={[
              ["changed", operation.changed],
              ["requested", operation.requested],
              ["skipped", operation.skipped],
              ["failed", operation.failed],
              ["to go", operation.state === "running" ? Math.max(operation.expected - operation.matched, 0) : 0]
            ]}
          />
          {operation.detail !== null && <span className="bad">{operation.detail}</span>}
          {operation.state === "running" && can(`jobs:${operation.action}` as "jobs:retry") /* one of the three */ && (
            <Action
              label="Stop"
              about={`operation ${operation.id}`}
              path={`operations/${operation.action}/${operation.id}/stop`}
            />
          )}
        </li>
      ))}
    </ul>
  )
}
