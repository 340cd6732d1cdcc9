/** The flows that this node can compute args for. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Attempt } from "../CurrentJob.ts"
import { FlowArgsError } from "../ShigotoError.ts"

/** A flow, as its nodes' attempts need it. */
export interface RegisteredFlow {
  readonly name: string
  /** The encoded args of a node, from the flow's encoded input and what the node waited for. */
  readonly argsOf: (step: string, input: unknown, attempt: Attempt) => Effect.Effect<unknown, FlowArgsError>
}

/** The registry. */
export class FlowRegistry extends Context.Service<
  FlowRegistry,
  {
    /** Adds a flow until the scope closes. */
    readonly register: (flow: RegisteredFlow) => Effect.Effect<void, never, Scope.Scope>
    /** The args of a node; fails where this node does not have the flow. */
    readonly argsOf: (
      of: { readonly name: string; readonly input: unknown; readonly step: string },
      attempt: Attempt
    ) => Effect.Effect<unknown, FlowArgsError>
  }
>()("effect-shigoto/internal/FlowRegistry") {}

/** An empty registry. */
export const layer: Layer.Layer<FlowRegistry> = Layer.sync(FlowRegistry, () => {
  const flows = new Map<string, RegisteredFlow>()
  return FlowRegistry.of({
    register: (flow) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => flows.set(flow.name, flow)),
          () => Effect.sync(() => flows.delete(flow.name))
        )
      ),
    argsOf: ({ input, name, step }, attempt) =>
      flows.get(name)?.argsOf(step, input, attempt) ??
      Effect.fail(
        new FlowArgsError({
          flow: name,
          step,
          message: `The args of "${step}" are computed by the flow "${name}", which this node does not have: provide its toLayer() beside the worker.`
        })
      )
  })
})
