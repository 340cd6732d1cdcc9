/** The pages, by their addresses. */
import type { ReactNode } from "react"
import type { Permission } from "../Access.ts"
import { Audit } from "./Audit.tsx"
import { BatchPage, Batches } from "./Batches.tsx"
import { Cron, CronPage } from "./Cron.tsx"
import { Failures } from "./Failures.tsx"
import { JobPage } from "./JobPage.tsx"
import { Jobs } from "./Jobs.tsx"
import { Limits } from "./Limits.tsx"
import { Nodes } from "./Nodes.tsx"
import { Overview } from "./Overview.tsx"
import { QueuePage, Queues } from "./Queues.tsx"
import { System } from "./System.tsx"
import { WorkerPage, Workers } from "./Workers.tsx"

export interface View {
  readonly title: string
  readonly to: string
  /** Pressed after `g`. */
  readonly key: string
  readonly group: "Work" | "Fleet" | "Control"
  readonly needs?: Permission
  readonly page: (search: URLSearchParams) => ReactNode
  /** What is below it, by its name or number. */
  readonly one?: (name: string) => ReactNode
}

export const views: ReadonlyArray<View> = [
  { title: "Overview", to: "/", key: "o", group: "Work", page: (search) => <Overview search={search} /> },
  {
    title: "Jobs",
    to: "/jobs",
    key: "j",
    group: "Work",
    page: (search) => <Jobs key={search.get("q") ?? ""} search={search} />,
    one: (id) => <JobPage key={id} id={Number(id)} />
  },
  { title: "Failures", to: "/failures", key: "f", group: "Work", page: () => <Failures /> },
  {
    title: "Batches",
    to: "/batches",
    key: "b",
    group: "Work",
    page: (search) => <Batches search={search} />,
    one: (id) => <BatchPage key={id} id={Number(id)} />
  },
  {
    title: "Cron",
    to: "/cron",
    key: "c",
    group: "Work",
    page: () => <Cron />,
    one: (name) => <CronPage key={name} name={name} />
  },
  {
    title: "Queues",
    to: "/queues",
    key: "q",
    group: "Fleet",
    page: () => <Queues />,
    one: (name) => <QueuePage key={name} name={name} />
  },
  {
    title: "Workers",
    to: "/workers",
    key: "w",
    group: "Fleet",
    page: () => <Workers />,
    one: (name) => <WorkerPage key={name} name={name} />
  },
  { title: "Nodes", to: "/nodes", key: "n", group: "Fleet", page: () => <Nodes /> },
  { title: "Limits", to: "/limits", key: "l", group: "Fleet", page: () => <Limits /> },
  {
    title: "Audit",
    to: "/audit",
    key: "a",
    group: "Control",
    needs: "audit:view",
    page: (search) => <Audit search={search} />
  },
  { title: "System", to: "/system", key: "s", group: "Control", page: () => <System /> }
]

/** The page of an address, and what of it is meant. */
export const find = (path: string): readonly [view: View, name: string | undefined] | undefined => {
  const [, first = "", name] = path.split("/")
  const view = views.find(({ to }) => to === `/${first}`)
  if (view === undefined || (name !== undefined && view.one === undefined)) return undefined
  try {
    return [view, name === undefined ? undefined : decodeURIComponent(name)]
  } catch {
    return undefined
  }
}
