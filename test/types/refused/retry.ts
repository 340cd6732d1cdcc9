import * as Job from "../../../src/Job.ts"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

export const live = Job.make("send").toLayer(() => Effect.void, { retry: Schedule.identity<string>() })
