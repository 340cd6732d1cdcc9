/** Queues: how full they are, how late, who runs them; what was asked of them, and who does it already. */
import { useState } from "react"
import { type QueueView, term } from "./api.ts"
import { Charts } from "./Overview.tsx"
import { Action, duration, Empty, jobsLink, number, Page, Parts, Table, useCan, useGet } from "./kit.tsx"

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

const Control = ({ row }: { readonly row: QueueView }) => {
  const can = useCan()
  if (!can("queues:pause")) return null
  return row.paused ? (
    <Action label="Resume" about={row.name} path={`${pathOf(row.name)}/resume`} />
  ) : (
    <Action label="Pause" about={row.name} path={`${pathOf(row.name)}/pause`} />
  )
}

export const QueueTable = ({ rows }: { readonly rows: ReadonlyArray<QueueView> }) => {
  if (rows.length === 0) {
    return (
      <Empty code={snippet}>
        No node runs a queue and none has a job: one appears here with its first job or node.
      </Empty>
    )
  }
  const shown = ["available", "scheduled", "retryable", "blocked"]
  return (
    <Table label="Queues" heads={["Queue", "Status", "Running", ...shown, "Oldest", "Nodes", "Control"]}>
      {rows.map((row) => (
        <tr key={row.name}>
          <th scope="row">
            <a href={`#/queues/${encodeURIComponent(row.name)}`}>{row.name}</a>
          </th>
          <td className={row.paused || row.nodes === 0 ? "warn" : ""}>{status(row)}</td>
          <td>
            <Parts
              label={`Slots of ${row.name}`}
              parts={[
                ["running", row.counts["executing"] ?? 0],
                ["free", Math.max(row.slots - (row.counts["executing"] ?? 0), 0)]
              ]}
            />
          </td>
          {shown.map((state) => (
            <td key={state}>
              <a className="count" href={jobsLink(`${term("queue", row.name)} state:${state}`)}>
                {row.counts[state] === undefined && !row.isExact ? "many" : number(row.counts[state] ?? 0)}
              </a>
            </td>
          ))}
          <td>{row.oldestMillis === null ? "–" : duration(row.oldestMillis)}</td>
          <td>{row.nodes}</td>
          <td>
            <Control key={String(row.paused)} row={row} />
          </td>
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
  const can = useCan()
  const row = queues.data?.queues.find((one) => one.name === name)
  const [slots, setSlots] = useState("")
  const [key, setKey] = useState("")
  return (
    <Page
      title={`Queue ${name}`}
      query={queues}
      actions={row !== undefined && <Control key={String(row.paused)} row={row} />}
    >
      {row === undefined ? (
        <Empty>No queue of this name has a job or a node.</Empty>
      ) : (
        <>
          <QueueTable rows={[row]} />
          <h2>Throughput and latency</h2>
          <Charts span="1h" queue={name} />
          <h2>Nodes</h2>
          {row.serving.length === 0 && <Empty>No live node runs this queue: its jobs wait.</Empty>}
          {row.serving.length > 0 && (
            <Table label="Nodes of the queue" heads={["Node", "Slots", "Asked", "Control"]}>
              {row.serving.map((node) => {
                const wish =
                  row.wishes.find((one) => one.node === node.node) ?? row.wishes.find((one) => one.node === null)
                const isPaused = wish?.paused === true
                const own = row.wishes.find((one) => one.node === node.node)?.paused === true
                return (
                  <tr key={node.node}>
                    <th scope="row">{node.node}</th>
                    <td>{node.concurrency}</td>
                    <td>
                      {wish === undefined
                        ? "–"
                        : [
                            ...(wish.concurrency === null
                              ? []
                              : [
                                  `${wish.concurrency} slots${wish.concurrency === node.concurrency ? ", done" : ", not yet"}`
                                ]),
                            ...(isPaused ? ["paused"] : [])
                          ].join("; ")}
                    </td>
                    <td>
                      {can("queues:pause") && (
                        <Action
                          key={String(own)}
                          label={own ? "Resume" : "Pause"}
                          about={`${name} on ${node.node}`}
                          path={`${pathOf(name)}/${own ? "resume" : "pause"}?node=${encodeURIComponent(node.node)}`}
                        />
                      )}
                    </td>
                  </tr>
                )
              })}
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
                  about={`${name} to ${slots}`}
                  path={`${pathOf(name)}/scale`}
                  body={{ concurrency: Number(slots) }}
                />
              )}
            </p>
          )}
          <h2>Paused keys</h2>
          {row.pausedKeys.length === 0 && <p className="dim">No partition key of this queue is paused.</p>}
          <ul className="plain">
            {row.pausedKeys.map((paused) => (
              <li key={paused} className="row">
                <code>{paused}</code>
                {can("queues:pause") && (
                  <Action
                    label="Resume"
                    about={`key ${paused}`}
                    path={`${pathOf(name)}/resume?key=${encodeURIComponent(paused)}`}
                  />
                )}
              </li>
            ))}
          </ul>
          {can("queues:pause") && (
            <p className="row">
              <label htmlFor="key">Partition key</label>
              <input id="key" value={key} onChange={(event) => setKey(event.target.value)} autoComplete="off" />
              {key !== "" && (
                <Action
                  label="Pause"
                  about={`key ${key}`}
                  path={`${pathOf(name)}/pause?key=${encodeURIComponent(key)}`}
                  onDone={() => setKey("")}
                />
              )}
            </p>
          )}
        </>
      )}
    </Page>
  )
}
