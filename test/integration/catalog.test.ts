import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, startNode } from "./support.ts"

const first = Job.make("greet", { args: { name: Schema.String, times: Schema.Int } })
const second = Job.make("greet", { args: { name: Schema.String } })

onDatabase("a node tells what its workers take, and the next one what has changed", () =>
  Effect.gen(function* () {
    const before = yield* startNode({ workers: first.toLayer(() => Effect.void) })
    const told = yield* eventually(before.jobs.argsSchema("greet"), (schema) => schema !== undefined)
    assert.deepInclude(told as object, { dialect: "draft-2020-12" })
    assert.deepInclude((told as { readonly schema: object }).schema, { required: ["name", "times"] })
    assert.isUndefined(yield* before.jobs.argsSchema("nobody"))
    yield* before.stop
    const after = yield* startNode({ workers: second.toLayer(() => Effect.void) })
    yield* eventually(after.jobs.argsSchema("greet"), (schema) => !JSON.stringify(schema).includes("times"))
  })
)
