import * as Job from "../../../src/Job.ts"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const Send = Job.make("send", { args: { to: Schema.String }, success: Schema.Struct({ messageId: Schema.String }) })

class Bounced extends Schema.TaggedError<Bounced>()("Bounced", {}) {}

export const live = Send.toLayer(() => Effect.fail(new Bounced()))
