import * as Job from "../../../src/Job.ts"
import * as Schema from "effect/Schema"

export const Send = Job.make("send", { args: { to: Schema.String }, unique: { keys: ["args.nope"] } })
