/**
 * The API's shape: what clients may import.
 */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"

export class Order extends Schema.Class<Order>("Order")({
  id: Schema.Int,
  item: Schema.String,
  status: Schema.Literals(["new", "paid", "declined"]),
  receipt: Schema.NullOr(Schema.String)
}) {}

export class Campaign extends Schema.Class<Campaign>("Campaign")({
  id: Schema.Int,
  subject: Schema.String,
  /** Both are unknown until the last mail has ended. */
  sent: Schema.NullOr(Schema.Int),
  failed: Schema.NullOr(Schema.Int)
}) {}

export class Report extends Schema.Class<Report>("Report")({ paid: Schema.Int, declined: Schema.Int }) {}

export class OutOfStock extends Schema.TaggedError<OutOfStock>()(
  "OutOfStock",
  { item: Schema.String },
  { httpApiStatus: 409 }
) {}

export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.Int }, { httpApiStatus: 404 }) {}

const id = { id: Schema.Int }

export class ShopGroup extends HttpApiGroup.make("shop").add(
  HttpApiEndpoint.post("placeOrder", "/orders", {
    payload: Schema.Struct({ email: Schema.NonEmptyString, item: Schema.NonEmptyString, card: Schema.NonEmptyString }),
    success: Order,
    error: OutOfStock
  }),
  HttpApiEndpoint.get("order", "/orders/:id", { params: id, success: Order, error: NotFound }),
  HttpApiEndpoint.post("startCampaign", "/campaigns", {
    payload: Schema.Struct({ subject: Schema.NonEmptyString, to: Schema.Array(Schema.NonEmptyString) }),
    success: Campaign
  }),
  HttpApiEndpoint.get("campaign", "/campaigns/:id", { params: id, success: Campaign, error: NotFound }),
  HttpApiEndpoint.get("reports", "/reports", { success: Schema.Array(Report) })
) {}

export class Api extends HttpApi.make("shop-api").add(ShopGroup) {}
