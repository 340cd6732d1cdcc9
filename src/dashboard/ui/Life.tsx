/** A job's life as the states that it can be in, those that it was in, and what happened when. */
import type { JobDetail } from "./api.ts"
import { State } from "./kit.tsx"
import { between, Time } from "./time.tsx"

interface Box {
  readonly state: string
  /** How it was there, where it has been. */
  readonly note: string | undefined
}

/** What is known of each state; of attempts before the last one only their end is kept. */
const boxesOf = (job: JobDetail): Readonly<Record<string, Box>> => {
  const failures = job.errors.length
  const wasDelayed = Date.parse(job.scheduledFor) > Date.parse(job.insertedAt)
  const due = wasDelayed ? job.scheduledFor : job.insertedAt
  const isOnce = failures <= 1 && job.snoozes === 0 && job.epoch <= 1
  const notes: Readonly<Record<string, string | undefined>> = {
    scheduled:
      job.snoozes > 0
        ? `snoozed ${job.snoozes} ×`
        : wasDelayed
          ? `for ${between(job.insertedAt, job.scheduledFor)}`
          : undefined,
    blocked: job.state === "blocked" ? "waits for other jobs" : undefined,
    available:
      job.claimedAt === null
        ? job.state === "available"
          ? "waits for a slot"
          : undefined
        : isOnce
          ? `waited ${between(due, job.claimedAt)}`
          : "claimed",
    executing:
      job.claimedAt === null
        ? undefined
        : job.finishedAt === null
          ? `attempt ${job.attempt}`
          : `ran ${between(job.claimedAt, job.finishedAt)}`,
    retryable: failures > 0 ? `failed ${failures} ×` : undefined
  }
  const end = job.finishedAt === null ? {} : { [job.state]: "ended" }
  return Object.fromEntries(
    Object.entries({ ...notes, completed: undefined, discarded: undefined, cancelled: undefined, ...end }).map(
      ([state, note]) => [state, { state, note: note ?? (job.state === state ? "now" : undefined) }]
    )
  )
}

/** The ways through them: what stands below another is an alternative. */
const columns = [
  ["scheduled", "blocked"],
  ["available"],
  ["executing", "retryable"],
  ["completed", "discarded", "cancelled"]
]

interface Step {
  readonly name: string
  readonly at: string
  readonly note?: string | undefined
}

/** What happened, in order. */
const stepsOf = (job: JobDetail): ReadonlyArray<Step> => {
  const steps: ReadonlyArray<Step> = [
    { name: "inserted", at: job.insertedAt },
    ...(job.state !== "scheduled" && Date.parse(job.scheduledFor) > Date.parse(job.insertedAt)
      ? [{ name: "due", at: job.scheduledFor }]
      : []),
    ...job.errors.map((error) => ({ name: `attempt ${error.attempt} failed`, at: error.at, note: error.tag })),
    ...(job.claimedAt === null ? [] : [{ name: `attempt ${Math.max(job.attempt, 1)} started`, at: job.claimedAt }]),
    ...(job.cancelRequestedAt === null ? [] : [{ name: "cancel asked for", at: job.cancelRequestedAt }]),
    ...(job.finishedAt === null ? [] : [{ name: job.state, at: job.finishedAt }]),
    ...(job.state === "scheduled" ? [{ name: "runs", at: job.runAt }] : []),
    ...(job.state === "retryable" ? [{ name: "runs again", at: job.runAt }] : [])
  ]
  return steps.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at))
}

export const Life = ({ job }: { readonly job: JobDetail }) => {
  const boxes = boxesOf(job)
  const steps = stepsOf(job)
  return (
    <>
      <div className="life" role="group" aria-label="States">
        {columns.map((names) => (
          <ul key={names.join()} className="plain">
            {names.map((name) => (
              <li
                key={name}
                aria-current={job.state === name ? "step" : undefined}
                className={boxes[name]?.note === undefined ? "never" : undefined}
              >
                <State state={name} />
                <small>{boxes[name]?.note ?? "–"}</small>
              </li>
            ))}
          </ul>
        ))}
      </div>
      <ol className="steps" aria-label="Life">
        {steps.map((step, i) => (
          <li key={i}>
            <span>{step.name}</span> <Time at={step.at} />{" "}
            <small>
              {step.note} {i > 0 && `+${between(steps[i - 1]?.at ?? step.at, step.at)}`}
            </small>
          </li>
        ))}
      </ol>
    </>
  )
}
