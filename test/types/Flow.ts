/** What the compiler says of flows; checked by `npm run types`, never run. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { expectTypeOf } from "vitest"
import * as Flow from "../../src/Flow.ts"
import type { EnqueuedFlow, Flows, FlowStatus } from "../../src/Flows.ts"
import * as Job from "../../src/Job.ts"
import type { BatchId } from "../../src/JobRow.ts"
import type { Jobs } from "../../src/Jobs.ts"
import type { BatchNotFound, DependencyError, StorageFailure } from "../../src/ShigotoError.ts"
import type { Workers } from "../../src/Workers.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { code: Schema.Int }) {}
class Codebook extends Context.Service<Codebook, { readonly key: string }>()("Codebook") {}

const Charge = Job.make("charge", {
  args: { cents: Schema.Int, currency: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("EUR"))) },
  success: Schema.Struct({ receipt: Schema.String }),
  error: Declined
})
const Pack = Job.make("pack", { args: { order: Schema.Int }, success: Schema.Int })
const Ship = Job.make("ship", {
  args: { receipt: Schema.String, parcel: Schema.Int },
  success: Schema.Struct({ tracking: Schema.String })
})
const Report = Job.make("report", {
  args: { text: Schema.String },
  dependencies: { charge: { job: Charge, onFailure: "run" }, parcels: [Pack], ship: Ship }
})

type Charged = Job.DependencyResult<{ readonly receipt: string }, Declined>

export const flows = (id: BatchId) => {
  const Checkout = Flow.make("checkout", { input: { order: Schema.Int, cents: Schema.Int } }, (flow) => {
    const charge = flow.node("charge", Charge, {
      args: (input) => {
        expectTypeOf(input).toEqualTypeOf<{ readonly order: number; readonly cents: number }>()
        return { cents: input.cents }
      }
    })
    const pack = flow.node("pack", Pack, { args: ({ order }) => ({ order }), priority: 5, delay: "1 minute" })
    const ship = flow.node("ship", Ship, {
      after: { charge, parcels: [pack, pack] },
      args: (_, { charge, parcels }) => {
        expectTypeOf(charge).toEqualTypeOf<{ readonly receipt: string }>()
        expectTypeOf(parcels).toEqualTypeOf<ReadonlyArray<number>>()
        return { receipt: charge.receipt, parcel: parcels[0] ?? 0 }
      }
    })
    const after = flow.node("after", Pack, {
      after: { charge: { node: charge, onFailure: "run" }, ship: { node: ship, onFailure: "hold" } },
      args: ({ order }, { charge, ship }) => {
        expectTypeOf(charge).toEqualTypeOf<Charged>()
        expectTypeOf(ship).toEqualTypeOf<{ readonly tracking: string }>()
        // @ts-expect-error: it may have failed
        void charge.value
        return { order }
      }
    })
    // What its definition reads has to come before it, and says what its args see.
    flow.node("report", Report, {
      after: { charge, parcels: [pack, after], ship },
      args: (_, { charge, ship }) => {
        expectTypeOf(charge).toEqualTypeOf<Charged>()
        expectTypeOf(ship).toEqualTypeOf<{ readonly tracking: string }>()
        return { text: "" }
      }
    })
    // @ts-expect-error: it reads results
    flow.node("r1", Report, { args: { text: "" } })
    // @ts-expect-error: it reads one more
    flow.node("r2", Report, { after: { charge, ship }, args: { text: "" } })
    // @ts-expect-error: another job
    flow.node("r3", Report, { after: { charge: pack, parcels: [], ship }, args: { text: "" } })
    flow.node("r4", Report, {
      // @ts-expect-error: its handler takes the result for granted
      after: { charge, parcels: [], ship: { node: ship, onFailure: "run" } },
      args: { text: "" }
    })
    // @ts-expect-error: args are missing
    flow.node("n1", Pack, {})
    // @ts-expect-error: another type
    flow.node("n2", Pack, { args: { order: "1" } })
    // @ts-expect-error: another type, computed
    flow.node("n3", Pack, { args: () => ({ order: "1" }) })
    // @ts-expect-error: no such result
    flow.node("n4", Pack, { after: { charge }, args: (_, { pack }) => ({ order: pack }) })
    // @ts-expect-error: no node
    flow.node("n5", Pack, { after: { charge: "charge" }, args: { order: 1 } })
    // @ts-expect-error: no such policy
    flow.node("n6", Pack, { after: { charge: { node: charge, onFailure: "ignore" } }, args: { order: 1 } })
    // @ts-expect-error: a flow decides what its nodes wait for
    flow.node("n7", Pack, { args: { order: 1 }, dependsOn: [] })
    return { ship, charge }
  })
  expectTypeOf(Checkout.name).toEqualTypeOf<"checkout">()
  expectTypeOf(Checkout.enqueue({ order: 1, cents: 2 })).toEqualTypeOf<
    Effect.Effect<EnqueuedFlow, Flow.FlowError, Flows | Jobs>
  >()
  expectTypeOf(Checkout.layer).toEqualTypeOf<Layer.Layer<never, never, Workers | Jobs>>()
  expectTypeOf(Checkout.status(id)).toEqualTypeOf<
    Effect.Effect<
      FlowStatus & {
        readonly output: Option.Option<{
          readonly ship: { readonly tracking: string }
          readonly charge: { readonly receipt: string }
        }>
      },
      BatchNotFound | StorageFailure | DependencyError,
      Flows
    >
  >()
  // @ts-expect-error: a field is missing
  void Checkout.enqueue({ order: 1 })

  const Day = Flow.make("day", {}, (flow) => {
    const first = flow.nest("first", Checkout, { input: { order: 1, cents: 2 } })
    const one = flow.node("one", Pack, {
      after: { first },
      args: (_, { first }) => ({ order: first.ship.tracking.length })
    })
    const second = flow.nest("second", Checkout, {
      after: { one, first: { node: first, onFailure: "run" } },
      input: (_, { first, one }) => {
        expectTypeOf(one).toEqualTypeOf<number>()
        expectTypeOf(first.charge).toEqualTypeOf<Charged>()
        return { order: one, cents: 3 }
      }
    })
    // @ts-expect-error: another type
    flow.nest("third", Checkout, { input: { order: "1", cents: 2 } })
    return second
  })
  expectTypeOf(Day.enqueue({})).toEqualTypeOf<Effect.Effect<EnqueuedFlow, Flow.FlowError, Flows | Jobs>>()
  expectTypeOf<Effect.Success<ReturnType<typeof Day.status>>["output"]>().toEqualTypeOf<
    Option.Option<{ readonly ship: { readonly tracking: string }; readonly charge: { readonly receipt: string } }>
  >()

  const Silent = Flow.make("silent", { input: Schema.Int }, (flow) => {
    flow.node("pack", Pack, { args: (order) => ({ order }) })
  })
  expectTypeOf<Effect.Success<ReturnType<typeof Silent.status>>["output"]>().toEqualTypeOf<Option.Option<undefined>>()

  const Coded = Schema.String.pipe(
    Schema.decodeTo(Schema.String, {
      decode: SchemaGetter.transformEffect((text: string) => Effect.as(Codebook, text)),
      encode: SchemaGetter.passthrough()
    })
  )
  const Reader = Job.make("reader", { args: {}, success: Coded })
  Flow.make("coded", {}, (flow) => {
    // @ts-expect-error: what its schemas need, a flow cannot give
    flow.node("reader", Reader, { args: {} })
  })
  const WithServices = Flow.make("with-services", { input: { text: Coded } }, (flow) => {
    flow.node("pack", Pack, { args: ({ text }) => ({ order: text.length }) })
  })
  expectTypeOf(WithServices.layer).toEqualTypeOf<Layer.Layer<never, never, Workers | Jobs | Codebook>>()
}

export const fanOuts = () => {
  expectTypeOf(Job.fanOut("packs", Pack, [{ order: 1 }])).toEqualTypeOf<
    Effect.Effect<ReadonlyArray<number>, Job.Waits, Job.CurrentJob>
  >()
  expectTypeOf(
    Job.fanOut("charges", Charge, Effect.as(Codebook, [{ cents: 1 }]), { onFailure: "run", priority: 1 })
  ).toEqualTypeOf<Effect.Effect<ReadonlyArray<Charged>, Job.Waits, Job.CurrentJob | Codebook>>()
  // A policy that is known only as it runs: either.
  const eitherWay = (onFailure: "cancel" | "run") => Job.fanOut("packs", Pack, [], { onFailure })
  expectTypeOf<Effect.Success<ReturnType<typeof eitherWay>>>().toEqualTypeOf<
    ReadonlyArray<number | Job.DependencyResult<number, never>>
  >()
  const live = Pack.toLayer(
    Effect.fnUntraced(function* ({ order }) {
      const parts = yield* Job.fanOut("parts", Pack, [{ order }])
      return parts.length
    })
  )
  expectTypeOf(live).toEqualTypeOf<Layer.Layer<never, never, Workers>>()
  // @ts-expect-error: another type
  Job.fanOut("packs", Pack, [{ order: "1" }])
  // @ts-expect-error: children wait for nothing
  Job.fanOut("packs", Pack, [{ order: 1 }], { dependsOn: [] })
  // @ts-expect-error: it reads results of others
  Job.fanOut("reports", Report, [{ text: "" }])
  // @ts-expect-error: no such policy
  Job.fanOut("packs", Pack, [{ order: 1 }], { onFailure: "ignore" })
}
