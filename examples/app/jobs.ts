/**
 * What the API and the workers share: the definitions. Nothing here runs anything, so the API bundles no handler.
 */
import { Schema } from "effect"
import { Batch, Job } from "effect-shigoto"

/** The bank does not answer; the next attempt may find it awake. */
export class BankUnreachable extends Schema.TaggedError<BankUnreachable>()("BankUnreachable", {
  status: Schema.Int
}) {}

export const Charge = Job.make("charge", {
  args: { order: Schema.Int, card: Schema.String },
  success: Schema.Struct({ receipt: Schema.String }),
  error: BankUnreachable,
  queue: "payments",
  maxAttempts: 8,
  timeout: "30 seconds"
})

export const SendMail = Job.make("send-mail", {
  args: { to: Schema.String, subject: Schema.String },
  queue: "mails"
})

export const CloseCampaign = Job.make("close-campaign", { args: { campaign: Schema.Int } })

/** One mail for each recipient, and one job after the last of them, however they ended. */
export const campaignOf = (campaign: number) =>
  Batch.make("campaign", { onFinished: CloseCampaign.prepare({ campaign }) })

export const DailyReport = Job.make("daily-report", { maxAttempts: 3 })
