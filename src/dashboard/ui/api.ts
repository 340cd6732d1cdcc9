/** The API as the page calls it: relative to wherever it is mounted. */
import type * as Schema from "effect/Schema"
import type * as Views from "../Views.ts"

type Encoded<S extends Schema.Top> = Schema.Codec.Encoded<S>

export type JobSummary = Encoded<typeof Views.JobSummary>
export type JobDetail = Encoded<typeof Views.JobDetail>
export type Overview = Encoded<typeof Views.OverviewView>
export type History = Encoded<typeof Views.HistoryView>
export type QueueView = Encoded<typeof Views.QueueView>
export type HistoryBy = Encoded<typeof Views.HistoryByView>
type CronView = Encoded<typeof Views.CronView>
type FailureView = Encoded<typeof Views.FailureView>
export type BatchView = Encoded<typeof Views.BatchView>
export type BatchDetail = Encoded<typeof Views.BatchDetail>
export type Operation = Encoded<typeof Views.OperationView>
export type Preview = Encoded<typeof Views.PreviewView>
type Answer = Encoded<typeof Views.Answer>
type Pulse = Encoded<typeof Views.PulseView>
export type Related = Encoded<typeof Views.RelatedJob>

/** What each kind of question is answered with; the kind is the topic whose news makes the answer old. */
export interface Answers {
  readonly me: Encoded<typeof Views.MeView>
  readonly overview: Overview
  readonly history: History
  readonly historyBy: HistoryBy
  readonly jobs: Encoded<typeof Views.JobPage>
  readonly states: Encoded<typeof Views.StateCounts>
  readonly job: JobDetail
  readonly explain: Encoded<typeof Views.ExplainView>
  readonly logs: Encoded<typeof Views.LogPage>
  readonly related: Encoded<typeof Views.RelatedView>
  readonly copies: ReadonlyArray<Encoded<typeof Views.CopyView>>
  readonly activity: ReadonlyArray<Encoded<typeof Views.ActivityView>>
  readonly runs: ReadonlyArray<Encoded<typeof Views.CronRunsView>>
  readonly queues: Encoded<typeof Views.QueuesView>
  readonly partitions: Encoded<typeof Views.PartitionsView>
  readonly cron: ReadonlyArray<CronView>
  readonly entry: Encoded<typeof Views.CronDetail>
  readonly failures: ReadonlyArray<FailureView>
  readonly batches: Encoded<typeof Views.BatchPage>
  readonly batch: BatchDetail
  readonly nodes: ReadonlyArray<Encoded<typeof Views.NodeView>>
  readonly workers: ReadonlyArray<Encoded<typeof Views.WorkerView>>
  readonly worker: Encoded<typeof Views.WorkerDetail>
  readonly limits: ReadonlyArray<Encoded<typeof Views.LimitView>>
  readonly breakers: ReadonlyArray<Encoded<typeof Views.BreakerView>>
  readonly audit: Encoded<typeof Views.AuditPage>
  readonly operations: ReadonlyArray<Operation>
  readonly search: ReadonlyArray<Encoded<typeof Views.Hit>>
  readonly system: Encoded<typeof Views.SystemView>
}

/** A refusal, with the server's own words. */
export class Refused extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** Integers that JavaScript's numbers cannot hold stay as they are written, in a wrapper that shows them. */
export class Exact {
  readonly digits: string
  constructor(digits: string) {
    this.digits = digits
  }
}

// The text that a number was read from is known to newer engines only; others show it rounded.
type Reviver = (key: string, value: unknown, context?: { readonly source?: string }) => unknown
const exactly: Reviver = (_, value, context) =>
  typeof value === "number" &&
  context?.source !== undefined &&
  /^-?\d+$/.test(context.source) &&
  !Number.isSafeInteger(value)
    ? new Exact(context.source)
    : value

// Looking at each value is slow, and only long numbers need it.
const read = (text: string): unknown => (/\d{16}/.test(text) ? JSON.parse(text, exactly) : JSON.parse(text))

const call = async (path: string, init: RequestInit): Promise<unknown> => {
  const response = await fetch(`api/${path}`, init)
  const text = await response.text()
  if (response.ok) return read(text)
  let message = text
  try {
    const { message: told } = JSON.parse(text) as { readonly message?: unknown } // checked below
    if (typeof told === "string") message = told
  } catch {
    // Plain text is the message.
  }
  throw new Refused(response.status, message || `The server answered with ${response.status}.`)
}

export const get = async <K extends keyof Answers>(_kind: K, path: string): Promise<Answers[K]> =>
  (await call(path, {})) as Answers[K] // the server's schemas encode it

/** The answers that the page has brought along, as texts by what was asked. */
const brought = new Map(
  Object.entries(
    JSON.parse(document.getElementById("first-screen")?.textContent ?? "{}") as Readonly<Record<string, string>> // by our own server
  )
)

/** What the page has brought along; it is taken once, since later it would be old. */
export const take = <K extends keyof Answers>(_kind: K, path: string): Answers[K] | undefined => {
  const text = brought.get(path)
  brought.delete(path)
  return text === undefined ? undefined : (read(text) as Answers[K]) // the server's schemas encode it
}

/** Forgets what the first view had no use for. */
export const forget = (): void => brought.clear()

export const pulse = async (topics: string): Promise<Pulse> =>
  (await call(`pulse?topics=${encodeURIComponent(topics)}`, {})) as Pulse // likewise

/** Changes something; the answer is the server's, by the schema of the endpoint. */
export const post = async <A = Answer>(path: string, body?: object): Promise<A> =>
  (await call(path, {
    method: "POST",
    // Also where the page is left at this moment.
    keepalive: true,
    headers: { "x-shigoto": "1", ...(body !== undefined && { "content-type": "application/json" }) },
    ...(body !== undefined && { body: JSON.stringify(body) })
  })) as A // likewise

/** A query string of what there is. */
export const query = (values: Readonly<Record<string, string | null | undefined>>): string => {
  const given = Object.entries(values).flatMap(([name, value]) =>
    value == null || value === "" ? [] : [`${name}=${encodeURIComponent(value)}`]
  )
  return given.length === 0 ? "" : `?${given.join("&")}`
}

/** A term of the filter grammar. */
export const term = (field: string, value: string): string =>
  `${field}:${/^[\w.-]+$/.test(value) ? value : JSON.stringify(value)}`
