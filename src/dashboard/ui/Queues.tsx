/** Queues: how full they are, how late, who runs them; what was asked of them, and who does it already. */
import { useState } from "react"
import { Action, Commands, word } from "./action.tsx"
import { type QueueView, term } from "./api.ts"
import { Charts } from "./Charts.tsx"
import { Count, Empty, Page, Parts, queueLink, Table, useCan, useGet } from "./kit.tsx"
import { Activity } from "./spark.tsx"
import { duration } from "./time.tsx"

const snippet = `ShigotoConfig.layer({ queues: { default: 10, emails: { concurrency: 5, fair: true } } })`

const pathOf = (name: string): string => `queues/${encodeURIComponent(name)}`

/** Who has to know of a pause: a queue without nodes is paused all the same. */
const status = (row: QueueView): string =>
  row.paused
    ? "‖ paused"
    : row.nodes === 0
      ? "○ nobody runs it"
      : row.wishes.some(({ paused }) => paused)
        ? "◐ paused on some"
        : "● open"

/** Pauses or resumes; `at` is the node or the key that is meant, as it stands in the path. */
const Control = (props: {
  readonly about: string
  readonly name: string
  readonly paused: boolean
  readonly at?: string
}) => {
  const { about, at = "", name, paused } = props
  const can = useCan()
  if (!can("queues:pause")) return null
  const [there, back] = paused ? (["resume", "pause"] as const) : (["pause", "resume"] as const)
  return (
    <Action
      label={paused ? "Resume" : "Pause"}
      about={about}
      path={`${pathOf(name)}/${there}${at}`}
      undo={{ path: `${pathOf(name)}/${back}${at}` }}
    />
  )
}

const waiting = ["available", "scheduled", "retryable", "blocked"] as const

export const QueueTable = ({ rows }: { readonly rows: ReadonlyArray<QueueView> }) => {
  const activity = useGet("activity", "activity?by=queue")
  const can = useCan()
  if (rows.length === 0) {
    return (
      <Empty code={snippet}>
        No node runs a queue and none has a job: one appears here with its first job or node.
      </Empty>
    )
  }
  return (
    <Table
      label="Queues"
      heads={[
        "Queue",
        "Status",
        "Slots",
        ...waiting.map((count) => ({ count })),
        { count: "Oldest" },
        "Last hour",
        ...(can("queues:pause") ? ["Control"] : [])
      ]}
    >
      {rows.map((row) => (
        <tr key={row.name}>
          <th scope="row">
            <a href={queueLink(row.name)}>{row.name}</a>
          </th>
          <td className={row.paused || row.nodes === 0 ? "warn" : "nowrap"}>{status(row)}</td>
          <td>
            <a className="count" href={`#/jobs?q=${encodeURIComponent(`${term("queue", row.name)} state:executing`)}`}>
              <Parts
                label={`Slots of ${row.name}`}
                parts={[
                  ["running", row.counts["executing"] ?? 0],
                  ["free", Math.max(row.slots - (row.counts["executing"] ?? 0), 0)]
                ]}
              />
            </a>
          </td>
          {waiting.map((state) => (
            <td key={state} className="number">
              <Count
                q={`${term("queue", row.name)} state:${state}`}
                value={row.counts[state] ?? (row.atLeast.includes(state) ? "many" : 0)}
                isAtLeast={row.atLeast.includes(state)}
              />
            </td>
          ))}
          <td className="number">{row.oldestMillis === null ? "–" : duration(row.oldestMillis)}</td>
          <td>
            <Activity of={activity.data?.find(({ name }) => name === row.name)} />
          </td>
          {can("queues:pause") && (
            <td>
              <Control key={String(row.paused)} about={row.name} name={row.name} paused={row.paused} />
            </td>
          )}
        </tr>
      ))}
    </Table>
  )
}

export const Queues = () => {
  const queues = useGet("queues", "queues")
  return (
    <Page title="Queues" query={queues}>
      <QueueTable rows={queues.data?.queues ?? []} />
    </Page>
  )
}

export const QueuePage = ({ name }: { readonly name: string }) => {
  const queues = useGet("queues", "queues")
  const row = queues.data?.queues.find((one) => one.name === name)
  return (
    <Page title={`Queue ${name}`} query={queues}>
      {row === undefined ? (
        <Empty>No queue of this name has a job or a node.</Empty>
      ) : (
        <>
          <QueueTable rows={[row]} />
          <h2>Throughput and latency</h2>
          <Charts span="1h" queue={name} />
          <Serving row={row} />
          <Keys row={row} />
          <Commands lines={["pause", "resume"].map((verb) => `shigoto queues ${verb} ${word(name)}`)} />
        </>
      )}
    </Page>
  )
}

/** What was asked of a node, and whether it does that already. */
const asked = (row: QueueView, node: QueueView["serving"][number]): string => {
  const own = row.wishes.find((one) => one.node === node.node)
  const all = row.wishes.find((one) => one.node === null)
  const slots = own?.concurrency ?? all?.concurrency ?? null
  const words = [
    ...(slots === null ? [] : [`${slots} slots, ${slots === node.concurrency ? "done" : "not yet"}`]),
    ...(own?.paused === true || all?.paused === true ? ["paused"] : [])
  ]
  return words.join("; ") || "–"
}

const Serving = ({ row }: { readonly row: QueueView }) => {
  const can = useCan()
  const [slots, setSlots] = useState("")
  return (
    <>
      <h2>Nodes</h2>
      {row.serving.length === 0 ? (
        <Empty>No live node runs this queue: its jobs wait.</Empty>
      ) : (
        <Table
          label="Nodes of the queue"
          heads={["Node", { count: "Slots" }, "Asked", ...(can("queues:pause") ? ["Control"] : [])]}
        >
          {row.serving.map((node) => (
            <tr key={node.node}>
              <th scope="row">{node.node}</th>
              <td className="number">{node.concurrency}</td>
              <td>{asked(row, node)}</td>
              {can("queues:pause") && (
                <td>
                  <Control
                    about={`${row.name} on ${node.node}`}
                    name={row.name}
                    paused={row.wishes.some((one) => one.node === node.node && one.paused)}
                    at={`?node=${encodeURIComponent(node.node)}`}
                  />
                </td>
              )}
            </tr>
          ))}
        </Table>
      )}
      {can("queues:scale") && (
        <p className="row">
          <label htmlFor="slots">Slots on each node</label>
          <input
            id="slots"
            type="number"
            min={1}
            max={100_000}
            value={slots}
            onChange={(event) => setSlots(event.target.value)}
          />
          {/^[1-9]\d*$/.test(slots) && (
            <Action
              label="Scale"
              about={`${row.name} to ${slots}`}
              path={`${pathOf(row.name)}/scale`}
              body={{ concurrency: Number(slots) }}
            />
          )}
        </p>
      )}
    </>
  )
}

/** Whose jobs wait, where a queue is shared out by a key; a key is paused beside its queue. */
const Keys = ({ row }: { readonly row: QueueView }) => {
  const can = useCan()
  const [key, setKey] = useState("")
  const partitions = useGet("partitions", `${pathOf(row.name)}/partitions`)
  const rows = partitions.data?.partitions ?? []
  return (
    <>
      <h2>Partition keys</h2>
      {partitions.error !== null && <p role="alert">{partitions.error.message}</p>}
      {partitions.data !== undefined && rows.length === 0 && (
        <p className="dim">No job of this queue that waits or runs has a partition key, and none is paused.</p>
      )}
      {rows.length > 0 && (
        <Table
          label="Partition keys"
          heads={[
            "Key",
            "Status",
            { count: "available" },
            { count: "Oldest" },
            { count: "executing" },
            ...(can("queues:pause") ? ["Control"] : [])
          ]}
        >
          {rows.map((one) => {
            const of = `${term("queue", row.name)} ${term("partitionKey", one.key)}`
            return (
              <tr key={one.key}>
                <th scope="row">
                  <code>{one.key}</code>
                </th>
                <td className={one.paused ? "warn" : "nowrap"}>{one.paused ? "‖ paused" : "● open"}</td>
                <td className="number">
                  <Count q={`${of} state:available`} value={one.available} isAtLeast={!one.isExact} />
                </td>
                <td className="number">{one.oldestMillis === null ? "–" : duration(one.oldestMillis)}</td>
                <td className="number">
                  <Count q={`${of} state:executing`} value={one.executing} />
                </td>
                {can("queues:pause") && (
                  <td>
                    <Control
                      key={String(one.paused)}
                      about={`key ${one.key}`}
                      name={row.name}
                      paused={one.paused}
                      at={`?key=${encodeURIComponent(one.key)}`}
                    />
                  </td>
                )}
              </tr>
            )
          })}
        </Table>
      )}
      {partitions.data?.isComplete === false && <p className="dim">These have the most jobs; there are more.</p>}
      {can("queues:pause") && (
        <p className="row">
          <label htmlFor="key">{rows.length === 0 ? "Partition key" : "Another key"}</label>
          <input id="key" value={key} onChange={(event) => setKey(event.target.value)} autoComplete="off" />
          {key !== "" && rows.every((one) => one.key !== key) && (
            <Control about={`key ${key}`} name={row.name} paused={false} at={`?key=${encodeURIComponent(key)}`} />
          )}
        </p>
      )}
    </>
  )
}
