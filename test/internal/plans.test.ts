import { assert, it } from "@effect/vitest"
import { makePlans } from "../../src/internal/plans.ts"

it("trusts plans until three claims in a row were long, and again a minute later", () => {
  let now = 0
  const plans = makePlans(() => now)
  for (const millis of [26, 26, 25, 26, 26]) plans.took(millis)
  assert.isTrue(plans.areTrusted())
  plans.took(26)
  assert.isFalse(plans.areTrusted())
  now = 59_999
  assert.isFalse(plans.areTrusted())
  now = 60_000
  assert.isTrue(plans.areTrusted())
  for (const millis of [1000, 1000]) plans.took(millis)
  assert.isTrue(plans.areTrusted())
})
