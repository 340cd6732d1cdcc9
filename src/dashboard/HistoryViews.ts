/**
 * What the dashboard's API tells of what happened, as schemas.
 */
import * as Schema from "effect/Schema"
import { Moment } from "./JobViews.ts"

const Percentiles = Schema.NullOr(Schema.Struct({ p50: Schema.Number, p95: Schema.Number, p99: Schema.Number }))

/**
 * What happened in a span, step by step; a step in which nothing happened is absent.
 *
 * @category schemas
 */
export const HistoryView = Schema.Struct({
  from: Moment,
  to: Moment,
  stepMillis: Schema.Int,
  points: Schema.Array(
    Schema.Struct({
      at: Moment,
      completed: Schema.Number,
      failed: Schema.Number,
      discarded: Schema.Number,
      cancelled: Schema.Number,
      snoozed: Schema.Number,
      /** In milliseconds, estimated from fixed buckets. */
      run: Percentiles,
      wait: Percentiles,
      depth: Schema.NullOr(Schema.Struct({ available: Schema.Number, oldestMillis: Schema.Number }))
    })
  )
})

/**
 * What happened in a span to the queues or workers of which most ended, and, without a name, to the rest.
 *
 * @category schemas
 */
export const HistoryByView = Schema.Struct({
  from: Moment,
  to: Moment,
  stepMillis: Schema.Int,
  groups: Schema.Array(
    Schema.Struct({
      name: Schema.NullOr(Schema.String),
      points: Schema.Array(
        Schema.Struct({
          at: Moment,
          completed: Schema.Number,
          failed: Schema.Number,
          run: Percentiles,
          wait: Percentiles
        })
      )
    })
  )
})

/**
 * What happened in the last hour to the jobs of one queue or worker, in twelve steps of five minutes.
 *
 * @category schemas
 */
export const ActivityView = Schema.Struct({
  name: Schema.String,
  completed: Schema.Number,
  failed: Schema.Number,
  run: Percentiles,
  wait: Percentiles,
  steps: Schema.Array(Schema.Struct({ completed: Schema.Number, failed: Schema.Number }))
})
