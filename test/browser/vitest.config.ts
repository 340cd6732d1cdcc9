import { defineConfig, mergeConfig } from "vitest/config"
import base from "../vitest.config.ts"

const { test, ...others } = base

export default mergeConfig(
  others,
  defineConfig({ test: { ...test, include: ["test/browser/**/*.test.ts"], exclude: [] } })
)
