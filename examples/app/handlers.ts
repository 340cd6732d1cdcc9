/**
 * What the API does: it writes its rows and enqueues in one transaction, and leaves the rest to the workers.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { HttpApiBuilder } from "effect/http-api"
import { Api, Campaign, NotFound, Order, OutOfStock, Report } from "./Api.ts"
import { campaignOf, Charge, SendMail } from "./jobs.ts"

export const ShopHandlers = HttpApiBuilder.group(
  Api,
  "shop",
  Effect.fnUntraced(function* (handlers) {
    const sql = yield* SqlClient.SqlClient

    const placeOrder = Effect.fn("placeOrder")(function* (email: string, item: string, card: string) {
      const [order] = yield* sql<typeof Order.Encoded>`
        INSERT INTO orders (email, item)
        VALUES (${email}, ${item})
        RETURNING id, item, status, receipt`
      if (order === undefined) return yield* Effect.die(new Error("an INSERT returns its row"))
      yield* Charge.enqueue({ order: order.id, card }, { tags: [`order:${order.id}`] })
      const taken = yield* sql`
        UPDATE stock
        SET count = count - 1
        WHERE item = ${item} AND count > 0
        RETURNING item`
      // The failure rolls back the order, and with it the job.
      if (taken.length === 0) return yield* new OutOfStock({ item })
      return new Order(order)
    }, sql.withTransaction)

    const startCampaign = Effect.fn("startCampaign")(function* (subject: string, to: ReadonlyArray<string>) {
      const [campaign] = yield* sql<typeof Campaign.Encoded>`
        INSERT INTO campaigns (subject)
        VALUES (${subject})
        RETURNING id, subject, sent, failed`
      if (campaign === undefined) return yield* Effect.die(new Error("an INSERT returns its row"))
      yield* campaignOf(campaign.id).enqueue(to.map((address) => SendMail.prepare({ to: address, subject })))
      return new Campaign(campaign)
    }, sql.withTransaction)

    return handlers.handleAll({
      placeOrder: ({ payload }) =>
        placeOrder(payload.email, payload.item, payload.card).pipe(
          Effect.catchIf(
            (error) => error._tag !== "OutOfStock",
            (error) => Effect.die(error)
          )
        ),
      order: ({ params }) =>
        sql<typeof Order.Encoded>`SELECT id, item, status, receipt FROM orders WHERE id = ${params.id}`.pipe(
          Effect.orDie,
          Effect.flatMap(([order]) =>
            order === undefined ? Effect.fail(new NotFound(params)) : Effect.succeed(new Order(order))
          )
        ),
      startCampaign: ({ payload }) => Effect.orDie(startCampaign(payload.subject, payload.to)),
      campaign: ({ params }) =>
        sql<typeof Campaign.Encoded>`SELECT id, subject, sent, failed FROM campaigns WHERE id = ${params.id}`.pipe(
          Effect.orDie,
          Effect.flatMap(([campaign]) =>
            campaign === undefined ? Effect.fail(new NotFound(params)) : Effect.succeed(new Campaign(campaign))
          )
        ),
      reports: () =>
        sql<typeof Report.Encoded>`SELECT paid, declined FROM reports ORDER BY due`.pipe(
          Effect.orDie,
          Effect.map((reports) => reports.map((report) => new Report(report)))
        )
    })
  })
)
