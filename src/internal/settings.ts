/** Settings as JSON, for people. */
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import { hidden } from "../Redaction.ts"

/** A setting as JSON; a secret and a function say only that they are there. */
export const plainSetting = (value: unknown): unknown => {
  if (Redacted.isRedacted(value)) return hidden
  if (Duration.isDuration(value)) return Duration.format(value)
  if (value instanceof Map) return Object.fromEntries([...value].map(([name, one]) => [name, plainSetting(one)]))
  if (typeof value === "function") return "(a function)"
  if (typeof value === "number" && !Number.isFinite(value)) return null
  if (Array.isArray(value)) return value.map(plainSetting)
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plainSetting(one)]))
  }
  return value ?? null
}
