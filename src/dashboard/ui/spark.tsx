/** Small pictures beside numbers; each says in words what it shows. */
import type { Answers } from "./api.ts"
import { jobsLink, number } from "./kit.tsx"

/** A line over time, without axes. */
export const Line = ({ label, values }: { readonly label: string; readonly values: ReadonlyArray<number> }) => {
  const most = Math.max(...values, 1)
  const step = 100 / Math.max(values.length - 1, 1)
  const points = values.map((value, i) => `${(i * step).toFixed(1)},${(23 - (value / most) * 22).toFixed(1)}`)
  return (
    <svg className="line" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={label}>
      <polygon points={`0,24 ${points.join(" ")} 100,24`} />
      <polyline points={points.join(" ")} />
    </svg>
  )
}

/** What ended in each five minutes of the last hour. */
export const Activity = ({ of }: { readonly of: Answers["activity"][number] | undefined }) => {
  if (of === undefined) return <span className="dim">–</span>
  const most = Math.max(...of.steps.map(({ completed, failed }) => completed + failed), 1)
  const words = `${number(of.completed)} completed, ${number(of.failed)} failed in the last hour`
  return (
    <svg className="bars" viewBox="0 0 96 24" role="img" aria-label={words}>
      <title>{words}</title>
      {of.steps.map(({ completed, failed }, i) => {
        const [done, bad] = [(completed / most) * 22, (failed / most) * 22]
        return (
          <g key={i}>
            <rect className="none" x={i * 8} y={23} width={6} height={1} />
            <rect className="completed" x={i * 8} y={23 - done} width={6} height={done} />
            <rect className="failed" x={i * 8} y={23 - done - bad} width={6} height={bad} />
          </g>
        )
      })}
    </svg>
  )
}

/** How the last jobs of a filter stand, the newest on the right; a way to them. */
export const Runs = (props: {
  readonly q: string
  readonly jobs: ReadonlyArray<{ readonly id: number; readonly state: string }>
}) => {
  const { jobs, q } = props
  if (jobs.length === 0) return <span className="dim">none is kept</span>
  const counts = Map.groupBy(jobs, ({ state }) => state)
  const words = `The last ${jobs.length}: ${[...counts].map(([state, of]) => `${of.length} ${state}`).join(", ")}`
  return (
    <a className="runs" href={jobsLink(q)} title={words}>
      <svg viewBox={`0 0 ${jobs.length * 8} 24`} width={jobs.length * 8} height={24} role="img" aria-label={words}>
        {jobs.toReversed().map(({ id, state }, i) => (
          <rect key={id} className={`run ${state}`} x={i * 8} width={6} height={24} rx={1.5} />
        ))}
      </svg>
    </a>
  )
}
