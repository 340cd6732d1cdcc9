/** Deterministic tests on a real PostgreSQL: virtual time, draining, assertions. */
export * as ShigotoTest from "./ShigotoTest.ts"
