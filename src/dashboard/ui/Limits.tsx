/** What holds work back over all nodes: limits, which can be set, and circuits. */
import { useState } from "react"
import { Action, Dialog } from "./action.tsx"
import { type Answers, term } from "./api.ts"
import { Count, Empty, number, Page, queueLink, Table, useCan, useGet, workerLink } from "./kit.tsx"
import { duration, Time } from "./time.tsx"

type Limit = Answers["limits"][number]
type Rate = NonNullable<Limit["rate"]>

const snippet = `SendEmail.toLayer(handler, { globalConcurrency: 3, rateLimit: { limit: 100, window: "10 seconds" } })`

export const Limits = () => {
  const limits = useGet("limits", "limits")
  const rows = limits.data ?? []
  const can = useCan()
  const [changes, setChanges] = useState<Limit>()
  return (
    <Page title="Limits and circuits" query={limits}>
      {rows.length === 0 ? (
        <Empty code={snippet}>Nothing limits workers over all nodes.</Empty>
      ) : (
        <Table
          label="Limits"
          heads={[
            "Of",
            { count: "Running" },
            { count: "At once" },
            "Rate",
            { count: "Room" },
            "Held until",
            ...(can("limits:change") ? ["Control"] : [])
          ]}
        >
          {rows.flatMap((row) => [
            <tr key={`${row.worker} ${row.queue}`}>
              <th scope="row">
                {row.worker !== null ? (
                  <a href={workerLink(row.worker)}>{row.worker}</a>
                ) : (
                  <a href={queueLink(row.queue ?? "")}>queue {row.queue}</a>
                )}
              </th>
              <td className="number">
                <Count
                  q={`${row.worker === null ? term("queue", row.queue ?? "") : term("worker", row.worker)} state:executing`}
                  value={row.running}
                />
              </td>
              <td className="number">{row.concurrency ?? "–"}</td>
              <td className="wide">{row.rate === null ? "–" : <RateText of={row.rate} />}</td>
              <td className="number">{row.rate === null ? "–" : number(Math.floor(row.rate.room))}</td>
              <td>
                <Time at={row.rate?.heldUntil ?? null} />
              </td>
              {can("limits:change") && (
                <td>
                  <button type="button" onClick={() => setChanges(row)} aria-label={`Change ${nameOf(row)}`}>
                    Change
                  </button>
                </td>
              )}
            </tr>,
            ...(row.rate?.keys ?? []).map((key) => (
              <tr key={`${row.worker} ${row.queue} ${key.partitionKey}`} className="dim">
                <td>
                  key <code>{key.partitionKey}</code>
                </td>
                <td />
                <td />
                <td>
                  {number(key.limit)} in {duration(key.windowMillis)}
                </td>
                <td className="number">{number(Math.floor(key.room))}</td>
                <td>
                  <Time at={key.heldUntil} />
                </td>
                {can("limits:change") && <td />}
              </tr>
            ))
          ])}
        </Table>
      )}
      {changes !== undefined && <Change of={changes} onClose={() => setChanges(undefined)} />}
      <Circuits />
    </Page>
  )
}

const nameOf = ({ queue, worker }: Limit): string => worker ?? `queue ${queue}`

const RateText = ({ of: rate }: { readonly of: Rate }) => (
  <>
    {number(rate.limit)} in {duration(rate.windowMillis)}{" "}
    <small>
      {rate.algorithm}, as {rate.name}
      {rate.perKey && ", for each key"}
    </small>
    {rate.changed && <small className="warn"> set by an operator</small>}
  </>
)

/** Sets other numbers, until they are taken back. */
const Change = ({ of: row, onClose }: { readonly of: Limit; readonly onClose: () => void }) => {
  const [places, setPlaces] = useState(String(row.concurrency ?? ""))
  const [limit, setLimit] = useState(String(row.rate?.limit ?? ""))
  const [seconds, setSeconds] = useState(String((row.rate?.windowMillis ?? 0) / 1000))
  const isRate = /^[1-9]\d*$/.test(limit) && Number(seconds) > 0
  const worker = row.worker
  return (
    <Dialog title={`Limits of ${nameOf(row)}`} onClose={onClose}>
      <p className="dim">They hold for all nodes with the next claim, until they are as in the code again.</p>
      {worker !== null && row.concurrency !== null && (
        <p className="row">
          <label htmlFor="places">At once</label>
          <input id="places" type="number" min={1} value={places} onChange={(event) => setPlaces(event.target.value)} />
          {/^[1-9]\d*$/.test(places) && (
            <Action
              label="Set"
              about={`concurrency of ${worker}`}
              path={`limits/${encodeURIComponent(worker)}/concurrency`}
              body={{ concurrency: Number(places) }}
              onDone={onClose}
            />
          )}
          <Action
            label="As in the code"
            about={`concurrency of ${worker}`}
            path={`limits/${encodeURIComponent(worker)}/concurrency`}
            body={{ concurrency: null }}
            onDone={onClose}
          />
        </p>
      )}
      {row.rate !== null && (
        <p className="row">
          <label htmlFor="limit">Rate</label>
          <input id="limit" type="number" min={1} value={limit} onChange={(event) => setLimit(event.target.value)} />
          <label htmlFor="seconds">in seconds</label>
          <input
            id="seconds"
            type="number"
            min={0.001}
            step="any"
            value={seconds}
            onChange={(event) => setSeconds(event.target.value)}
          />
          {isRate && (
            <Action
              label="Set"
              about={`rate ${row.rate.name}`}
              path={`limits/${encodeURIComponent(row.rate.name)}/rate`}
              body={{ rate: { limit: Number(limit), windowMillis: Math.round(Number(seconds) * 1000) } }}
              onDone={onClose}
            />
          )}
          <Action
            label="As in the code"
            about={`rate ${row.rate.name}`}
            path={`limits/${encodeURIComponent(row.rate.name)}/rate`}
            body={{ rate: null }}
            onDone={onClose}
          />
        </p>
      )}
    </Dialog>
  )
}

const Circuits = () => {
  const breakers = useGet("breakers", "breakers")
  const circuits = breakers.data ?? []
  const can = useCan()
  return (
    <>
      <h2>Circuits</h2>
      {circuits.length === 0 ? (
        <p className="dim">None: neither a shared one nor one of the process that serves this page.</p>
      ) : (
        <Table
          label="Circuits"
          heads={["Worker", "State", "Since", "Kept", ...(can("breakers:close") ? ["Control"] : [])]}
        >
          {circuits.map((row) => (
            <tr key={row.worker}>
              <th scope="row">
                <a href={workerLink(row.worker)}>{row.worker}</a>
              </th>
              <td className={row.state === "closed" ? "good" : "bad"}>{row.state}</td>
              <td>
                <Time at={row.since} />
              </td>
              <td>{row.shared ? "for all nodes" : "for this process"}</td>
              {can("breakers:close") && (
                <td>
                  {row.state !== "closed" && (
                    <Action
                      label="Close"
                      about={row.worker}
                      path={`breakers/${encodeURIComponent(row.worker)}/close`}
                    />
                  )}
                </td>
              )}
            </tr>
          ))}
        </Table>
      )}
    </>
  )
}
