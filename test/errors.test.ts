import { assert, describe, it } from "@effect/vitest"
import * as errors from "../src/ShigotoError.ts"

const classes = Object.entries(errors).flatMap(([name, value]) =>
  typeof value === "function" && "fields" in value ? [[name, value.fields] as const] : []
)

describe("the library's errors", () => {
  it("have a message, and no field that hides in a log which one it is", () => {
    assert.isAbove(classes.length, 30)
    for (const [name, fields] of classes) {
      assert.property(fields, "message", name)
      assert.notProperty(fields, "name", name)
    }
  })
})
