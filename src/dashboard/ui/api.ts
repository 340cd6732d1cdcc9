/** The API as the page calls it: relative to wherever it is mounted. */
import type * as Schema from "effect/Schema"
import type * as Api from "../DashboardApi.ts"
import type { Permission } from "../Access.ts"

export type JobSummary = Schema.Codec.Encoded<typeof Api.JobSummary>
export type JobDetail = Schema.Codec.Encoded<typeof Api.JobDetail>
export type QueueView = Schema.Codec.Encoded<typeof Api.QueueView>
export type CronView = Schema.Codec.Encoded<typeof Api.CronView>
export type FailureView = Schema.Codec.Encoded<typeof Api.FailureView>
export type Answer = Schema.Codec.Encoded<typeof Api.Answer>

export interface Answers {
  readonly me: { readonly user: string; readonly can: ReadonlyArray<Permission> }
  readonly jobs: { readonly jobs: ReadonlyArray<JobSummary>; readonly next: string | null }
  readonly count: { readonly count: number; readonly isExact: boolean }
  readonly job: JobDetail
  readonly queues: { readonly sampledAt: string; readonly queues: ReadonlyArray<QueueView> }
  readonly cron: ReadonlyArray<CronView>
  readonly failures: ReadonlyArray<FailureView>
}

const call = async (path: string, init: RequestInit): Promise<unknown> => {
  const response = await fetch(`api/${path}`, init)
  const text = await response.text()
  if (response.ok) return JSON.parse(text)
  let message = text
  try {
    const { message: told } = JSON.parse(text) as { readonly message?: unknown } // checked below
    if (typeof told === "string") message = told
  } catch {
    // Plain text is the message.
  }
  throw new Error(message || `The server answered with ${response.status}.`)
}

export const get = async <K extends keyof Answers>(_kind: K, path: string): Promise<Answers[K]> =>
  (await call(path, {})) as Answers[K] // the server's schemas encode it

export const post = async (path: string): Promise<Answer> =>
  (await call(path, { method: "POST", headers: { "x-shigoto": "1" } })) as Answer // likewise
