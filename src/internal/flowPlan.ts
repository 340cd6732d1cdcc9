/**
 * A flow as a list of jobs: its nodes, those of the flows nested in it, and the edges between them, parents first.
 *
 * A node can come only after nodes that are there already, so that a cycle cannot be written. The jobs of a nested flow
 * stand beside the others under the path of their names; those without a parent of their own wait for what the nested
 * flow comes after, and so do those whose args are computed from it.
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { type Dependencies, type Parent, declaration, readOne } from "../Dependency.ts"
import type { Jobs } from "../Jobs.ts"
import { type DependencyError, FlowArgsError, InvalidFlow } from "../ShigotoError.ts"
import { maxDependencies, type Options, type Refusal } from "./enqueueing.ts"
import { describe, sanitize } from "./json.ts"
import { nameProblem, shown } from "./names.ts"
import { type Dependency, type NewJob, type OnFailure, onFailures } from "./newJob.ts"

/** The part of a definition that a node needs. */
export interface Definition extends Parent {
  readonly args: Schema.Top
  readonly options: { readonly [K in "queue" | "priority" | "maxAttempts" | "tags" | "encrypted"]?: Options[K] }
  readonly dependencies: Dependencies
  readonly prepare: (args: never, ...options: ReadonlyArray<never>) => Effect.Effect<NewJob, Refusal, Jobs>
}

/** What there is to compute from: the flow's input, and what the job waited for. */
export interface Given {
  readonly input: unknown
  /** What the job calls by one name, by rising id. */
  readonly named: (name: string) => ReadonlyArray<Dependency>
}

/** Looks through what a job waited for once, however many names there are. */
export const given = (input: unknown, dependencies: Iterable<Dependency> = []): Given => {
  const byName = new Map<string, Array<Dependency>>()
  for (const one of [...dependencies].toSorted((a, b) => a.id - b.id)) {
    const name = one.name ?? ""
    const others = byName.get(name)
    if (others === undefined) byName.set(name, [one])
    else others.push(one)
  }
  return { input, named: (name) => byName.get(name) ?? [] }
}

/** Why a value could not be computed. */
export type Problem = FlowArgsError | DependencyError

/** A value to come; one that is checked by a schema takes what an enqueue takes. */
export type Computed = Effect.Effect<unknown, Problem, Jobs>

/** A result, read. */
export type Reading = Effect.Effect<unknown, Problem>

/** One job of a flow. */
export interface Plan {
  /** The names from the outermost flow to the node, with slashes between them. */
  readonly path: string
  readonly job: Definition
  readonly options: Options
  readonly edges: ReadonlyArray<PlanEdge>
  /** Whether its args wait for results. */
  readonly computed: boolean
  readonly args: (given: Given) => Computed
}

/** A job that another one of the flow waits for. */
export interface PlanEdge {
  readonly parent: Plan
  readonly onFailure: OnFailure
  readonly name: string
}

/** What may stand behind an edge: a job, or a nested flow. */
export interface Target {
  readonly kind: "job" | "flow"
  /** How many jobs were there before it. */
  readonly place: number
  readonly scope: Scope
  readonly name: string
  /** The jobs to wait for, under the name that their waiting job gives to all of it. */
  readonly jobs: (name: string) => ReadonlyArray<{ readonly plan: Plan; readonly name: string }>
  /** What became of it. */
  readonly read: (given: Given, name: string, onFailure: OnFailure) => Reading
}

/** One flow in the making, at the top or nested. */
export interface Scope {
  readonly flow: string
  /** What the paths of its nodes begin with. */
  readonly prefix: string
  /** All jobs of the outermost flow. */
  readonly plans: Array<Plan>
  readonly names: Set<string>
  /** What a nested flow comes after. */
  readonly outer: ReadonlyArray<PlanEdge>
  /** Whether its input waits for results. */
  readonly computed: boolean
  readonly input: (given: Given) => Computed
}

/** An edge as written: what to wait for, alone or with what happens when it fails. */
export type Written = Target | { readonly node: Target; readonly onFailure?: OnFailure | undefined }

/** What a flow comes to: a node, nodes by name, or nothing. */
export type Output = Target | Readonly<Record<string, Target>> | undefined

/** What comes before, by the names that the node gives it. */
export type WrittenAfter = Readonly<Record<string, Written | ReadonlyArray<Written>>>

/** The outermost flow before it has any nodes. */
export const outermost = (flow: string): Scope => ({
  flow,
  prefix: "",
  plans: [],
  names: new Set(),
  outer: [],
  computed: false,
  input: ({ input }) => Effect.succeed(input)
})

/** Adds a job; throws where it cannot be part of the flow. */
export const addJob = (
  scope: Scope,
  name: string,
  job: Definition,
  options: Options,
  after: WrittenAfter,
  args: unknown
): Target => {
  const path = takeName(scope, name)
  // Edges by id could close a circle, and what waits outside of the flow would not be counted in it.
  for (const option of ["dependsOn", "batch", "unique"]) {
    if (option in options) throw invalid(scope, shown(path), `a node takes no ${option}`)
  }
  const before = resolve(scope, path, after, job.dependencies)
  const waits = before.edges.length > 0
  const isFunction = typeof args === "function"
  const computed = isFunction && (waits || scope.computed)
  const edges = [...before.edges, ...(!waits || (computed && scope.computed) ? scope.outer : [])]
  checkEdges(scope, path, job, edges)
  const plan: Plan = {
    path,
    job,
    options,
    edges,
    computed,
    args: isFunction
      ? (given) => call(scope, path, args as Compute, given, before.read(given, "")) // args are a function where they are computed
      : () => Effect.succeed(args ?? {})
  }
  const place = scope.plans.push(plan)
  return {
    kind: "job",
    place,
    scope,
    name,
    jobs: (as) => [{ plan, name: as }],
    read: (given, as, onFailure) => readJob(scope, given, as, plan, onFailure)
  }
}

/** Adds the jobs of another flow, which `build` puts into its own scope. */
export const addFlow = (
  scope: Scope,
  name: string,
  after: WrittenAfter,
  input: unknown,
  check: (input: unknown, path: string) => Computed,
  build: (scope: Scope) => Output
): Target => {
  const path = takeName(scope, name)
  const before = resolve(scope, path, after, {})
  const isFunction = typeof input === "function"
  const waits = before.edges.length > 0
  const computed = isFunction && (waits || scope.computed)
  // Its names are told apart from those that its jobs give to what they wait for themselves.
  const own = before.edges.map((edge) => ({ ...edge, name: `${path}:${edge.name}` }))
  const inner: Scope = {
    ...scope,
    prefix: `${path}/`,
    names: new Set(),
    outer: [...own, ...(!waits || (computed && scope.computed) ? scope.outer : [])],
    computed,
    input: (given) =>
      Effect.flatMap(
        isFunction
          ? call(scope, path, input as Compute, given, before.read(given, `${path}:`))
          : Effect.succeed(input ?? {}),
        (made) => check(made, path)
      )
  }
  const from = scope.plans.length
  const output = build(inner)
  const jobs = scope.plans.slice(from)
  const waitedFor = new Set(jobs.flatMap((plan) => plan.edges.map(({ parent }) => parent)))
  const last = jobs.filter((plan) => !waitedFor.has(plan))
  const outputs = targetsOf(output).flatMap((target) => target.jobs("").map(({ plan }) => plan))
  return {
    kind: "flow",
    place: from,
    scope,
    name,
    jobs: (as) =>
      [...new Set([...last, ...outputs])].map((plan) => ({ plan, name: `${as}/${plan.path.slice(path.length + 1)}` })),
    read: (given, as, onFailure) => readOutput(output, given, as, onFailure)
  }
}

/** Reads what a flow has come to. */
export const readOutput = (output: Output, given: Given, as: string, onFailure: OnFailure): Reading => {
  const read = (target: Target) => target.read(given, as === "" ? target.name : `${as}/${target.name}`, onFailure)
  if (output === undefined) return Effect.undefined
  if (isTarget(output)) return read(output)
  return Effect.gen(function* () {
    const results: Record<string, unknown> = {}
    for (const [name, target] of Object.entries(output)) results[name] = yield* read(target)
    return results
  })
}

/** Refuses what a builder returned that is no part of the flow. */
export const checkOutput = (scope: Scope, output: Output): Output => {
  if (scope.names.size === 0) throw invalid(scope, shown(scope.flow), "it has no nodes")
  for (const target of targetsOf(output)) {
    if (target?.scope !== scope) throw invalid(scope, "its result", "it is no node of this flow")
  }
  return output
}

/** Why a value could not be computed. */
export const unusable = (flow: string, step: string, why: string): FlowArgsError =>
  new FlowArgsError({ flow, step, message: `The args of "${step}" in the flow "${flow}": ${sanitize(why, 2000)}` })

// internal

type Compute = (input: unknown, results: unknown) => unknown

const isTarget = (output: Target | Readonly<Record<string, Target>>): output is Target =>
  typeof output["jobs"] === "function"

const targetsOf = (output: Output): ReadonlyArray<Target> =>
  output === undefined ? [] : isTarget(output) ? [output] : Object.values(output)

const takeName = (scope: Scope, name: string): string => {
  const problem =
    nameProblem(name) ??
    (/[/:]/.test(name) ? "it has a slash or a colon" : undefined) ??
    (scope.names.has(name) ? "there is a node of this name" : undefined)
  if (problem !== undefined) throw invalid(scope, shown(name), problem)
  scope.names.add(name)
  return `${scope.prefix}${name}`
}

/** The edges of a node, and how its results are read. */
const resolve = (scope: Scope, path: string, after: WrittenAfter, needs: Dependencies) => {
  const edges: Array<PlanEdge> = []
  const readers: Array<readonly [string, (given: Given, prefix: string) => Reading]> = []
  for (const [name, written] of Object.entries(after)) {
    const problem = nameProblem(name) ?? (/[/:]/.test(name) ? "it has a slash or a colon" : undefined)
    if (problem !== undefined) throw invalid(scope, shown(name), problem)
    const many = Array.isArray(written)
    const usual = declaration(needs, name)?.onFailure ?? "cancel"
    const each = (many ? (written as ReadonlyArray<Written>) : [written as Written]).map((one, i) => {
      // checked above
      const isEdge = typeof one === "object" && one !== null && "node" in one
      const { node: target, onFailure = usual } = isEdge ? one : { node: one, onFailure: usual }
      if (target?.scope !== scope)
        throw invalid(scope, shown(path), `what it calls ${shown(name)} is no node of this flow`)
      if (!onFailures.includes(onFailure)) {
        throw invalid(scope, shown(path), `${shown(onFailure)} is no policy: they are ${onFailures.join(", ")}`)
      }
      // The jobs of a list share its name, those of the flows in it are told apart by their place.
      const jobs = target.jobs(name)
      const as = many && target.kind === "flow" ? `${name}/${i}` : name
      for (const job of as === name ? jobs : target.jobs(as))
        edges.push({ parent: job.plan, onFailure, name: job.name })
      return { target, onFailure, as }
    })
    const [first] = each as [(typeof each)[number]] // one written, one resolved
    readers.push([
      name,
      many ? listReader(each) : (all, prefix) => first.target.read(all, `${prefix}${first.as}`, first.onFailure)
    ])
  }
  return {
    edges,
    read: Effect.fnUntraced(function* (given: Given, prefix: string): Effect.fn.Return<unknown, Problem> {
      const results: Record<string, unknown> = {}
      for (const [name, read] of readers) results[name] = yield* read(given, prefix)
      return results
    })
  }
}

/** The results of a list in its order. Its jobs share a name and are told apart by their ids, which rise as they do. */
const listReader = (
  each: ReadonlyArray<{ readonly target: Target; readonly onFailure: OnFailure; readonly as: string }>
) => {
  const inOrder = each
    .flatMap(({ target }) => (target.kind === "job" ? [target] : []))
    .toSorted((a, b) => a.place - b.place)
  const positions = new Map(inOrder.map((target, i) => [target, i]))
  return (all: Given, prefix: string): Reading =>
    Effect.forEach(each, ({ as, onFailure, target }) => {
      const at = positions.get(target)
      if (at === undefined) return target.read(all, `${prefix}${as}`, onFailure)
      const one = all.named(`${prefix}${as}`)[at]
      return target.read({ ...all, named: () => (one === undefined ? [] : [one]) }, `${prefix}${as}`, onFailure)
    })
}

const readJob = (scope: Scope, given: Given, as: string, { job, path }: Plan, onFailure: OnFailure): Reading => {
  const [one] = given.named(as)
  return one === undefined
    ? Effect.fail(unusable(scope.flow, path, `there is no job "${as}": the flow has changed since it was enqueued`))
    : readOne({ worker: job.name, name: as }, job, onFailure, one)
}

const checkEdges = (scope: Scope, path: string, job: Definition, edges: ReadonlyArray<PlanEdge>): void => {
  const seen = new Set<Plan>()
  for (const { name, parent } of edges) {
    if (seen.has(parent)) throw invalid(scope, shown(path), `${shown(name)} comes before it twice`)
    seen.add(parent)
  }
  if (edges.length > maxDependencies) {
    throw invalid(scope, shown(path), `it comes after ${edges.length} jobs, the limit is ${maxDependencies}`)
  }
  for (const name of Object.keys(job.dependencies)) {
    const need = declaration(job.dependencies, name)
    const found = edges.filter((edge) => edge.name === name)
    const wrong =
      need?.many !== true && found.length !== 1
        ? `"${job.name}" reads the result of "${name}", and it comes after ${found.length === 0 ? "none" : "several"}`
        : found.find(({ parent }) => parent.job.name !== need?.job.name) !== undefined
          ? `"${job.name}" reads the result of "${need?.job.name}" as "${name}", and that is another job`
          : need?.onFailure !== "run" && found.some(({ onFailure }) => onFailure === "run")
            ? `"${job.name}" reads the result of "${name}", so it cannot run without one`
            : undefined
    if (wrong !== undefined) throw invalid(scope, shown(path), wrong)
  }
}

/** Calls what somebody wrote. */
const call = (scope: Scope, path: string, compute: Compute, given: Given, results: Computed): Computed =>
  Effect.flatMap(Effect.all([scope.input(given), results]), ([input, read]) =>
    Effect.try({
      try: () => compute(input, read),
      catch: (thrown) => unusable(scope.flow, path, `computing them threw ${describe(thrown)}`)
    })
  )

const invalid = (scope: Scope, value: string, why: string): InvalidFlow =>
  new InvalidFlow({
    flow: shown(scope.flow),
    value,
    message: `${value} cannot be part of the flow ${shown(scope.flow)}: ${why}.`
  })
