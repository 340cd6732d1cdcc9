import * as CronJob from "../../../src/CronJob.ts"
import * as Job from "../../../src/Job.ts"
import * as Schema from "effect/Schema"

const Send = Job.make("send", { args: { to: Schema.String } })

export const nightly = CronJob.make({ name: "nightly", cron: "@daily", job: Send, args: { to: 5 } })
