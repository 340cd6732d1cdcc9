/**
 * A flow: jobs in a typed graph, stored together, each run once those that it comes after have ended.
 *
 * The graph is built in code from definitions. Nodes name what they come after by reference, and only what is there
 * already can be referred to, so that there are no cycles. A node's args are a value, or computed from the flow's input
 * and the results before it as its attempt begins; args that cannot be computed are a typed failure of that attempt.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Covariant } from "effect/Types"
import type { BatchError } from "./Batches.ts"
import type { Dependencies, DependencyResult, PolicyOf } from "./Dependency.ts"
import { type EnqueuedFlow, Flows, type FlowStatus } from "./Flows.ts"
import { prepareComputed, type Refusal } from "./internal/enqueueing.ts"
import * as Plan from "./internal/flowPlan.ts"
import { nameProblem, shown } from "./internal/names.ts"
import type { NewJob, OnFailure } from "./internal/newJob.ts"
import * as Job from "./Job.ts"
import type { BatchId } from "./JobRow.ts"
import { Jobs } from "./Jobs.ts"
import {
  BatchNotFound,
  type DependencyError,
  type FlowArgsError,
  InvalidFlow,
  type StorageFailure
} from "./ShigotoError.ts"
import { Workers } from "./Workers.ts"

/**
 * The runtime mark of flows.
 *
 * @category type ids
 */
export const TypeId = "~effect-shigoto/Flow"

/**
 * A place in a flow: that of a job, or of a flow nested in it.
 *
 * @category models
 */
export interface Node<Value, Ended = unknown, Worker extends string = string> {
  readonly [TypeId]: {
    /** What comes after it gets its result. */
    readonly value: Covariant<Value>
    /** Or, under `run`, how it ended. */
    readonly ended: Covariant<Ended>
    readonly worker: Covariant<Worker>
  }
  readonly name: string
}

/**
 * What a node comes after: another node, alone or with what happens when it fails. By default the node is cancelled
 * then, or as its definition's `dependencies` say; `run` lets it run and see how the other one ended, `hold` keeps it
 * waiting until that one has succeeded on a retry.
 *
 * @category models
 */
export type Edge = Node<unknown> | { readonly node: Node<unknown>; readonly onFailure: OnFailure }

/**
 * All that a node comes after, by the names that it reads their results by.
 *
 * @category models
 */
export interface After {
  readonly [name: string]: Edge | ReadonlyArray<Edge>
}

/**
 * The results that a node's args are computed from.
 *
 * @category models
 */
export type ResultsAfter<Edges, Needs> = {
  readonly [Name in keyof Edges]: Edges[Name] extends ReadonlyArray<infer One>
    ? ReadonlyArray<ReadOf<One, UsualPolicy<Needs, Name>>>
    : ReadOf<Edges[Name], UsualPolicy<Needs, Name>>
}

/**
 * What may be said of a node beside its args: as of an enqueue.
 *
 * @category models
 */
export type NodeOptions = Omit<Job.EnqueueOptions, "dependsOn" | "batch" | "unique">

/**
 * Adds nodes to a flow in the making.
 *
 * @category models
 */
export interface Builder<Input> {
  /**
   * Adds a job, under a name that no other node of the flow has.
   *
   * `args` are a value, or a function of the flow's input and of the results that it comes after. The schemas of its
   * job may not need services, and what makes its definition unique does not count here.
   */
  readonly node: <
    Worker extends string,
    Args extends Schema.Top,
    Success extends Schema.Top,
    Error extends Schema.Top,
    Needs extends Dependencies,
    const Edges extends After & EdgesFor<Needs> = After & EdgesFor<Needs>
  >(
    name: string,
    job: Job.Job<Worker, Args, Success, Error, Needs> &
      WithoutServices<Args["EncodingServices"] | Success["DecodingServices"] | Error["DecodingServices"]>,
    options: NodeOptions & {
      /** May be left out where the job takes none. */
      readonly args?: Given<Args["~type.make.in"], Input, ResultsAfter<Edges, Needs>>
      readonly after?: Edges
    } & ({} extends Args["~type.make.in"] ? unknown : { readonly args: unknown }) &
      (keyof Needs extends never ? unknown : { readonly after: unknown })
  ) => Node<Success["Type"], DependencyResult<Success["Type"], Error["Type"]>, Worker>
  /**
   * Adds all nodes of another flow, under a name that no other node has; they begin once what it comes after has ended.
   *
   * What comes after it waits for all of them, and gets the other flow's result.
   */
  readonly nest: <Inner extends Schema.Top, Output, const Edges extends After = {}>(
    name: string,
    flow: Flow<string, Inner, Output> & WithoutServices<Inner["EncodingServices"] | Inner["DecodingServices"]>,
    options: {
      /** May be left out where the flow takes none. */
      readonly input?: Given<Inner["~type.make.in"], Input, ResultsAfter<Edges, {}>>
      readonly after?: Edges
    } & ({} extends Inner["~type.make.in"] ? unknown : { readonly input: unknown })
  ) => Node<ValueOf<Output>, EndedOf<Output>, never>
}

/**
 * What may be said as a flow is enqueued.
 *
 * @category models
 */
export interface FlowOptions {
  /** The open batch that it becomes a member of, and counts in as one. Defaults to none. */
  readonly parent?: BatchId | undefined
}

/**
 * What enqueueing a flow may fail with.
 *
 * @category errors
 */
export type FlowError = BatchError | Refusal | FlowArgsError | DependencyError

/**
 * A flow that can be enqueued, any number of times.
 *
 * @category models
 */
export interface Flow<Name extends string, Input extends Schema.Top, Output = undefined> {
  readonly [TypeId]: Assembly<Output>
  readonly name: Name
  readonly input: Input
  /** Its jobs, parents first; those of nested flows under the path of their names. */
  readonly nodes: ReadonlyArray<{
    readonly path: string
    readonly worker: string
    readonly after: ReadonlyArray<string>
    /** Whether its args are computed from results. */
    readonly computed: boolean
  }>
  /**
   * Stores all of its jobs in one transaction, the caller's if there is one.
   *
   * Args that need no results are computed and checked here, so that an error keeps the whole flow out.
   */
  readonly enqueue: (
    input: Input["~type.make.in"],
    options?: FlowOptions
  ) => Effect.Effect<EnqueuedFlow, FlowError, Flows | Jobs | Input["EncodingServices"] | Input["DecodingServices"]>
  /** How it stands, and its result once all of that is there. */
  readonly status: (
    id: BatchId
  ) => Effect.Effect<
    FlowStatus & { readonly output: Option.Option<ValueOf<Output>> },
    BatchNotFound | StorageFailure | DependencyError,
    Flows
  >
  /** Lets this node compute the args that wait for results; for every node that has a worker of such a job. */
  readonly layer: Layer.Layer<never, never, Workers | Jobs | Input["DecodingServices"]>
}

/**
 * Makes a flow; throws where its graph cannot be used. Nothing is stored yet.
 *
 * **Details**
 *
 * `build` adds the nodes and returns the one whose result is that of the flow, or several by name, or nothing. It is
 * called once for the flow, and once for each place where the flow is nested.
 *
 * @category constructors
 */
export const make = <
  const Name extends string,
  Input extends Schema.Struct.Fields | Schema.Top = {},
  Output extends Node<unknown> | Readonly<Record<string, Node<unknown>>> | void = void
>(
  name: Name,
  options: { readonly input?: Input },
  build: (flow: Builder<Job.SchemaOf<Input>["Type"]>) => Output
): Flow<Name, Job.SchemaOf<Input>, Output> => {
  const problem = nameProblem(name)
  if (problem !== undefined) {
    throw new InvalidFlow({
      flow: shown(name),
      value: shown(name),
      message: `${shown(name)} cannot name a flow: ${problem}.`
    })
  }
  // Its input is checked, encoded and read as the args of a job of its name would be.
  const carrier = Job.make(name, { args: (options.input ?? {}) as Schema.Struct.Fields }) // Job.make takes a schema too
  return makeErased(name, carrier as unknown as Carrier, build as never) as never // below, nodes are just targets
}

// internal

type Given<Args, Input, Results> = Args | ((input: Input, results: Results) => Args)
type WithoutServices<Services> = [Services] extends [never]
  ? unknown
  : { readonly "schemas that need services cannot be part of a flow": Services }
type UsualPolicy<Needs, Name> = Name extends keyof Needs
  ? PolicyOf<Needs[Name] extends readonly [infer One] ? One : Needs[Name]>
  : "cancel"
type ReadOf<One, Usual> = One extends { readonly node: infer To; readonly onFailure: infer Policy }
  ? OneOf<To, Policy>
  : OneOf<One, Usual>
type OneOf<To, Policy> = To extends Node<infer Value, infer Ended> ? (Policy extends "run" ? Ended : Value) : never
type ValueOf<Output> =
  Output extends Node<infer Value, unknown>
    ? Value
    : Output extends Readonly<Record<string, Node<unknown>>>
      ? { readonly [Name in keyof Output]: ValueOf<Output[Name]> }
      : undefined
type EndedOf<Output> =
  Output extends Node<unknown, infer Ended>
    ? Ended
    : Output extends Readonly<Record<string, Node<unknown>>>
      ? { readonly [Name in keyof Output]: EndedOf<Output[Name]> }
      : undefined
type EdgesFor<Needs extends Dependencies> = {
  readonly [Name in keyof Needs]: Needs[Name] extends readonly [infer One]
    ? ReadonlyArray<EdgeFor<One>>
    : EdgeFor<Needs[Name]>
}
type EdgeFor<One> =
  | Node<unknown, unknown, NameOf<One>>
  | {
      readonly node: Node<unknown, unknown, NameOf<One>>
      readonly onFailure: [PolicyOf<One>] extends ["run"] ? OnFailure : Exclude<OnFailure, "run">
    }
type NameOf<One> = One extends { readonly job: { readonly name: infer Name extends string } }
  ? Name
  : One extends { readonly name: infer Name extends string }
    ? Name
    : never

/** What a flow keeps of how it is built, for those that it is nested in. */
interface Assembly<Output> {
  readonly build: (scope: Plan.Scope) => Plan.Output
  readonly check: (input: unknown, path: string) => Plan.Computed
  /** Its result, as a type only. */
  readonly output?: Covariant<Output>
}

type Carrier = Job.Job<string, Schema.Top & WithoutNeeds, Schema.Void>
interface WithoutNeeds {
  readonly EncodingServices: never
  readonly DecodingServices: never
}

const makeErased = (
  name: string,
  carrier: Carrier,
  assemble: (flow: Builder<unknown>) => Plan.Output
): Flow<string, Schema.Top & WithoutNeeds, Node<unknown>> => {
  const decode = (encoded: unknown, path: string): Effect.Effect<unknown, FlowArgsError> =>
    Effect.mapError(Schema.decodeUnknownEffect(Schema.toCodecJson(carrier.args))(encoded), ({ message }) =>
      Plan.unusable(name, path, `the input does not match its schema: ${message}`)
    )
  const assembly: Assembly<Node<unknown>> = {
    build: (scope) => {
      const inner = { ...scope, flow: name }
      return Plan.checkOutput(inner, assemble(builderOf(inner)))
    },
    // As it would be stored and read again: with defaults, and in the form of its schema.
    check: (input, path) =>
      carrier.prepare(input as never).pipe(
        // encoded by its own schema
        Effect.mapError(({ message }) => Plan.unusable(name, path, message)),
        Effect.flatMap(({ args }) => decode(JSON.parse(args), path))
      )
  }
  const top = Plan.outermost(name)
  const output = assembly.build(top)
  const { plans } = top
  const byPath = new Map(plans.map((plan) => [plan.path, plan]))
  const positions = new Map(plans.map((plan, position) => [plan, position]))
  const asNode = (plan: Plan.Plan, job: NewJob): NewJob & { readonly step: string } => ({
    ...job,
    // A flow has all of its nodes.
    unique: undefined,
    step: plan.path,
    dependsOn: plan.edges.map(({ name, onFailure, parent }) => ({
      parent: { position: positions.get(parent) as number }, // a node comes after those that are there
      onFailure,
      name
    }))
  })
  const encode = (plan: Plan.Plan, given: Plan.Given): Effect.Effect<NewJob, Refusal | Plan.Problem, Jobs> =>
    Effect.flatMap(plan.args(given), (args) => plan.job.prepare(args as never, plan.options as never)) // which checks both
  return {
    [TypeId]: assembly,
    name,
    input: carrier.args,
    nodes: plans.map(({ computed, edges, job, path }) => ({
      path,
      worker: job.name,
      after: edges.map(({ parent }) => parent.path),
      computed
    })),
    enqueue: Effect.fn(`${name}.enqueue`)(function* (input: unknown, { parent }: FlowOptions = {}) {
      const flows = yield* Flows
      const { encrypts } = yield* Jobs
      const { args: text } = yield* carrier.prepare(input)
      const given = Plan.given(yield* decode(JSON.parse(text), name))
      const nodes = yield* Effect.forEach(plans, (plan) =>
        Effect.map(
          plan.computed ? Effect.fromResult(prepareComputed(plan.job, plan.options, encrypts)) : encode(plan, given),
          (job) => asNode(plan, job)
        )
      )
      return yield* flows.enqueue({ name, input: text, nodes, parent })
    }),
    status: Effect.fn(`${name}.status`)(function* (id: BatchId) {
      const flows = yield* Flows
      const status = yield* flows.status(id)
      if (status.name !== name) {
        return yield* new BatchNotFound({
          batch: String(id),
          message: `There is no flow "${name}" of the id ${id}: that is "${status.name}".`
        })
      }
      const ended = status.nodes.flatMap(({ cancelReason: reason, failure, id: job, result, state, step, worker }) =>
        state === "completed" || state === "discarded" || state === "cancelled"
          ? [{ id: job, name: step, added: false, worker, state, result, failure, reason }]
          : []
      )
      const read = Plan.readOutput(output, Plan.given(undefined, ended), "", "cancel")
      return {
        ...status,
        output: yield* Effect.matchEffect(read, {
          onFailure: (error) =>
            error._tag === "DependencyError" && error.reason === "Mismatch"
              ? Effect.fail(error)
              : Effect.succeed(Option.none()),
          // Nothing is there once all has ended.
          onSuccess: (value) =>
            Effect.succeed(output !== undefined || status.finished ? Option.some(value) : Option.none())
        })
      }
    }),
    layer: Layer.effectDiscard(
      Effect.gen(function* () {
        const workers = yield* Workers
        const context = yield* Effect.context<Jobs>()
        yield* workers.registerFlow({
          name,
          argsOf: (step, input, { dependencies }) => {
            const plan = byPath.get(step)
            if (plan === undefined)
              return Effect.fail(Plan.unusable(name, step, "this version of the flow has no such node"))
            return Effect.flatMap(decode(input, step), (decoded) =>
              encode(plan, Plan.given(decoded, dependencies.values()))
            ).pipe(
              Effect.mapError((error) =>
                error._tag === "FlowArgsError" || error._tag === "DependencyError"
                  ? error
                  : Plan.unusable(name, step, error.message)
              ),
              Effect.map(({ args }): unknown => JSON.parse(args)),
              Effect.provideContext(context)
            )
          }
        })
      })
    )
  }
}

/** Nodes are targets, under a type that says what comes of them. */
const builderOf = (scope: Plan.Scope): Builder<unknown> => {
  type Options = NodeOptions & { readonly args?: unknown; readonly input?: unknown; readonly after?: Plan.WrittenAfter }
  return {
    node: (name: string, job: unknown, { after = {}, args, ...options }: Options) =>
      Plan.addJob(scope, name, job as Plan.Definition, options, after, args) as never, // a target
    nest: (name: string, flow: Flow<string, Schema.Top, unknown>, { after = {}, input }: Options) => {
      const { build, check } = flow[TypeId]
      return Plan.addFlow(scope, name, after, input, check, build) as never // a target
    }
  } as Builder<unknown> // whose methods say what comes of each
}
