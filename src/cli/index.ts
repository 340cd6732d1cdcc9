export * as Cli from "./Cli.ts"
export { type Config, defineConfig } from "./Config.ts"
