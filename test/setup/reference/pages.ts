/** The pages of docs/reference: one for each public module, and a table of contents. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Declaration, type Module, readModule, root } from "./declarations.ts"

/** The pages by path, and what is missing in the sources. */
export interface Reference {
  readonly pages: ReadonlyMap<string, string>
  readonly missing: ReadonlyArray<string>
}

/** Makes all of them from the sources as they are now. */
export const makeReference = (): Reference => {
  const front = frontOf("src/index.ts")
  const doors = ["testing", "embedded", "dashboard", "cli"].map((door) => ({
    door,
    exported: frontOf(`src/${door}/index.ts`)
  }))
  const pages = new Map<string, string>()
  const missing: Array<string> = []
  const add = (path: string, importing: string): string => {
    const module = readModule(path)
    missing.push(...missingIn(module))
    const page = `docs/reference/${pageOf(path)}`
    pages.set(page, pageText(module, importing))
    return `| [${nameOf(path)}](${pageOf(path)}) | ${firstSentence(module.doc)} |`
  }
  const rows = unique(front.map(({ path }) => path)).map((path) => {
    const names = front.filter((one) => one.path === path).map(({ isType, name }) => (isType ? `type ${name}` : name))
    return add(path, `import { ${names.join(", ")} } from "effect-shigoto"`)
  })
  const doorRows = doors.flatMap(({ door, exported }) =>
    unique(exported.map(({ path }) => path)).map((path) => {
      const names = exported
        .filter((one) => one.path === path)
        .map(({ isType, name }) => (isType ? `type ${name}` : name))
      return add(path, `import { ${names.join(", ")} } from "effect-shigoto/${door}"`)
    })
  )
  const inside = Fs.readdirSync(Path.join(root, "src"))
    .filter((name) => name.endsWith(".ts") && name !== "index.ts")
    .map((name) => `src/${name}`)
    .filter((path) => !front.some((one) => one.path === path))
    .map((path) => add(path, `import * as ${nameOf(path)} from "effect-shigoto/${nameOf(path)}"`))
  const table = (lines: ReadonlyArray<string>) => ["| module | |", "|---|---|", ...lines, ""]
  pages.set(
    "docs/reference/README.md",
    [
      made("src"),
      "",
      "# Reference",
      "",
      "Every module, with the signature and the docstring of all it exports. The [guides](../getting-started.md) say how they",
      "go together.",
      "",
      "## effect-shigoto",
      "",
      "In the order in which a job meets them.",
      "",
      ...table(rows),
      "## Doors of their own",
      "",
      ...table(doorRows),
      "## The parts behind them",
      "",
      "What `ShigotoLive` is put together from: for those who put it together otherwise, or read the source.",
      "",
      ...table(inside)
    ].join("\n")
  )
  return { pages, missing }
}

/** What a module leaves unsaid: a file doc, and above each export a sentence and its category. */
export const missingIn = (module: Module): ReadonlyArray<string> => {
  const documented = new Set(module.declarations.filter(({ doc }) => doc !== undefined).map(({ name }) => name))
  return [
    ...(module.doc === "" ? [`${module.path} has no file doc`] : []),
    ...module.declarations
      .filter(({ doc, name }) => doc === undefined && !documented.has(name))
      .map(({ name }) => `${module.path}: ${name} has no docstring`),
    ...module.declarations
      .filter(({ doc }) => doc !== undefined && doc.category === undefined)
      .map(({ name }) => `${module.path}: ${name} has no @category`),
    ...module.declarations
      .filter(({ doc }) => doc !== undefined && !/^[A-Z`].*[.:]$/s.test(doc.text.split("\n\n")[0] ?? ""))
      .map(({ name }) => `${module.path}: the docstring of ${name} is no sentence`)
  ]
}

// internal

interface Exported {
  readonly name: string
  readonly path: string
  readonly isType: boolean
}

/** What a barrel exports, and from where. */
const frontOf = (barrel: string): ReadonlyArray<Exported> =>
  [
    ...Fs.readFileSync(Path.join(root, barrel), "utf8").matchAll(
      /^export (type )?(?:\* as (\w+)|\{ ([^}]+) \}) from "\.\/(\S+)"$/gm
    )
  ].flatMap(([, type, namespace, names = "", target = ""]) =>
    (namespace === undefined ? names.split(", ") : [namespace]).map((name) => ({
      name: name.replace("type ", ""),
      path: Path.posix.join(Path.posix.dirname(barrel), target),
      isType: type !== undefined || name.startsWith("type ")
    }))
  )

const unique = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> => [...new Set(values)]

const nameOf = (path: string): string => Path.posix.basename(path, ".ts")

/** A door's `Config.ts` must not meet another's. */
const pageOf = (path: string): string =>
  `${path
    .replace(/^src\//, "")
    .replace(/\.ts$/, "")
    .replaceAll("/", "-")}.md`

const made = (path: string): string => `<!-- Made from ${path} by \`npm run reference\`; change it there. -->`

const firstSentence = (doc: string): string =>
  (doc.split(/\n\n/)[0] ?? "").replaceAll(/\s+/g, " ").replace(/^(.*?[.!?])(?= [A-Z]).*$/, "$1")

const pageText = (module: Module, importing: string): string => {
  const groups = new Map<string, Array<string>>()
  const shown = module.declarations.filter(({ doc }) => doc !== undefined)
  for (const { doc, name } of shown) {
    const category = doc?.category ?? "other"
    groups.set(category, [...(groups.get(category) ?? []), `[${name}](#${name.toLowerCase()})`])
  }
  const contents = [...groups].map(([category, names]) => `| ${category} | ${unique(names).join(" · ")} |`)
  const passedOn = module.passedOn.map(({ from, name, path }) => `[${name}](${pageOf(path)}#${from.toLowerCase()})`)
  return [
    made(module.path),
    "",
    `# ${nameOf(module.path)}`,
    "",
    "```ts",
    importing,
    "```",
    "",
    module.doc,
    "",
    ...(guides[nameOf(module.path)] ?? []).flatMap((links) => [links, ""]),
    ...(contents.length === 0 ? [] : ["| | |", "|---|---|", ...contents, ""]),
    ...(passedOn.length === 0 ? [] : [`It exports these too: ${passedOn.join(" · ")}`, ""]),
    ...shown.flatMap((declaration) => sectionOf(declaration, module.declarations))
  ]
    .join("\n")
    .replaceAll(/\n{3,}/g, "\n\n")
}

/** One export, with the overloads and the type that share its docstring. */
const sectionOf = (declaration: Declaration, all: ReadonlyArray<Declaration>): ReadonlyArray<string> => {
  const kin = all.filter(({ doc, name }) => name === declaration.name && doc === undefined)
  const [sentence = "", ...rest] = (declaration.doc?.text ?? "").split("\n\n")
  return [
    `## ${declaration.name}`,
    "",
    sentence,
    "",
    "```ts",
    [declaration, ...kin].map(({ signature }) => signature).join("\n\n"),
    "```",
    "",
    rest.join("\n\n"),
    ""
  ]
}

/** Where a module is shown at work. */
const guides: Readonly<Record<string, ReadonlyArray<string>>> = {
  AdaptiveConcurrency: [
    "Guide: [adaptive concurrency](../adaptive.md). Example: [adaptive.ts](../../examples/adaptive.ts)."
  ],
  Batch: ["Guide: [batches](../batches.md). Example: [batch.ts](../../examples/batch.ts)."],
  Batches: ["Guide: [batches](../batches.md). Example: [batch.ts](../../examples/batch.ts)."],
  Cipher: ["Guide: [encryption](../encryption.md). Example: [encryption.ts](../../examples/encryption.ts)."],
  CircuitBreaker: [
    "Guide: [circuit breakers](../breakers.md). Example: [circuit-breaker.ts](../../examples/circuit-breaker.ts)."
  ],
  CircuitBreakerStore: [
    "Guide: [stores](../stores.md). Example: [rate-limiter-store.ts](../../examples/rate-limiter-store.ts)."
  ],
  Cli: ["Guide: [the command line](../cli.md), and [all its commands](../cli-reference.md)."],
  CronJob: ["Guide: [cron](../cron.md). Example: [cron.ts](../../examples/cron.ts)."],
  CronJobs: ["Guide: [cron](../cron.md). Example: [cron.ts](../../examples/cron.ts)."],
  Dashboard: ["Guide: [the dashboard](../dashboard.md). Example: [dashboard.ts](../../examples/dashboard.ts)."],
  Encryption: ["Guide: [encryption](../encryption.md). Example: [encryption.ts](../../examples/encryption.ts)."],
  Explain: ["Guide: [health and explain](../health.md)."],
  Filter: ["Guide: [bulk operations](../bulk.md). Example: [bulk.ts](../../examples/bulk.ts)."],
  Flow: ["Guide: [flows](../flows.md). Example: [flow.ts](../../examples/flow.ts)."],
  Flows: ["Guide: [flows](../flows.md). Example: [flow.ts](../../examples/flow.ts)."],
  Health: ["Guide: [health and explain](../health.md)."],
  HealthHttp: ["Guide: [health](../health.md). Example: [prometheus.ts](../../examples/prometheus.ts)."],
  Job: [
    "Guides: [getting started](../getting-started.md), [enqueueing](../enqueueing.md), [workers](../workers.md), [retries](../retries.md), [scheduling](../scheduling.md), [results](../results.md). Examples: [quickstart.ts](../../examples/quickstart.ts), [retries.ts](../../examples/retries.ts), [execute.ts](../../examples/execute.ts)."
  ],
  Jobs: [
    "Guides: [bulk operations](../bulk.md), [health and explain](../health.md). Example: [bulk.ts](../../examples/bulk.ts)."
  ],
  Limit: ["Guide: [limits](../limits.md). Example: [limits.ts](../../examples/limits.ts)."],
  Limits: ["Guide: [limits](../limits.md). Example: [limits.ts](../../examples/limits.ts)."],
  LoadShedding: ["Guide: [load shedding](../shedding.md)."],
  Middleware: ["Guide: [middleware](../middleware.md). Example: [middleware.ts](../../examples/middleware.ts)."],
  Migrations: [
    "Guides: [roles](../roles.md), [operating](../operating.md). Example: [roles.ts](../../examples/roles.ts)."
  ],
  Queues: [
    "Guide: [fair queues, weights and aging](../fairness.md). Examples: [fair-queue.ts](../../examples/fair-queue.ts), [queue-weights.ts](../../examples/queue-weights.ts), [aging.ts](../../examples/aging.ts)."
  ],
  RateLimiterStore: [
    "Guide: [stores](../stores.md). Example: [rate-limiter-store.ts](../../examples/rate-limiter-store.ts)."
  ],
  ShigotoTest: ["Guide: [testing](../testing.md). Example: [testing.test.ts](../../examples/testing.test.ts)."],
  Unique: ["Guide: [unique jobs](../unique.md). Example: [unique.ts](../../examples/unique.ts)."]
}
