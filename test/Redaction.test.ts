import { assert, describe, it } from "@effect/vitest"
import * as Redaction from "../src/Redaction.ts"

const isSecret = Redaction.makeIsSecret(Redaction.defaultRedactKeys)

const job = (carried: Partial<Redaction.Carried>): Redaction.Carried => ({
  args: {},
  result: undefined,
  meta: {},
  errors: [],
  cancelReason: undefined,
  ...carried
})

const failure = { attempt: 1, at: "2026-01-01T00:00:00.000Z", node: "n", tag: "Error" }

describe("redaction", () => {
  it("knows names that tell of a secret, in any style", () => {
    for (const name of ["password", "PASSWORD", "db_password", "apiKey", "api-key", "X-Api-Key", "sessionToken"]) {
      assert.isTrue(isSecret(name), name)
    }
    for (const name of ["to", "subject", "key", "id"]) assert.isFalse(isSecret(name), name)
  })

  it("hides values under such names at any depth, and wherever else the job quotes them", () => {
    const redacted = Redaction.redact(
      job({
        args: { to: "ada", nested: [{ apiKey: "canary-1" }], text: "x canary-1 y" },
        result: { url: "https://x/?q=canary-1" },
        meta: { token: { inner: "canary-2" } },
        errors: [{ ...failure, message: "canary-2 failed", cause: "at canary-1", error: { reason: "canary-1" } }],
        cancelReason: "because of canary-2"
      }),
      isSecret
    )
    assert.notInclude(JSON.stringify(redacted), "canary")
    assert.deepInclude(redacted.args as object, { to: "ada", text: `x ${Redaction.hidden} y` })
    assert.strictEqual(redacted.cancelReason, `because of ${Redaction.hidden}`)
  })

  it("hides secrets of the typed error too, which only it may carry", () => {
    const redacted = Redaction.redact(
      job({ errors: [{ ...failure, message: "got canary-3", error: { _tag: "Denied", token: "canary-3" } }] }),
      isSecret
    )
    assert.notInclude(JSON.stringify(redacted), "canary")
  })

  it("hides what looks like a credential in any text, and leaves the rest", () => {
    const hide = (text: string): string => Redaction.redactText(text, isSecret)
    for (const [text, hidden] of [
      ["connect postgres://app:canary@db/x failed", "connect postgres://app:••••••@db/x failed"],
      ["Authorization: Bearer canary.canary-canary", "Authorization: •••••• ••••••"],
      ["sent Bearer canarycanary", "sent Bearer ••••••"],
      ["password=canary&x=1", "password=••••••&x=1"],
      [`{"apiKey": "canary", "to": "ada"}`, `{"apiKey": ••••••, "to": "ada"}`],
      ["token: 'canary'", "token: ••••••"]
    ] as const) {
      assert.notInclude(hide(text), "canary", text)
      assert.strictEqual(hide(text), hidden)
    }
    for (const text of [
      "Unexpected token: } in JSON at position 3",
      "postgres://app@db/x",
      "see https://example.com/a:b",
      "the token is wrong",
      "to: ada@example.com, status=failed"
    ]) {
      assert.strictEqual(hide(text), text)
    }
  })
})
