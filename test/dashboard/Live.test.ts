/**
 * What viewers hear of: everything new, sooner or later, at the cost of one look for all of them and none for nobody.
 */
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { CronJobs } from "../../src/CronJobs.ts"
import { type Access, Dashboard } from "../../src/dashboard/index.ts"
import { Jobs } from "../../src/Jobs.ts"
import { everyone, open, Pay, post, Send, TestLive } from "./support.ts"

interface Heard {
  readonly event: string
  readonly data: { readonly [name: string]: unknown }
}

/** Reads a stream of events, one by one. */
const listen = (response: Response) => {
  assert.strictEqual(response.headers.get("content-type")?.split(";")[0], "text/event-stream")
  const reader = (response.body ?? new ReadableStream<Uint8Array>()).getReader()
  const decoder = new TextDecoder()
  let rest = ""
  const next = async (): Promise<Heard | undefined> => {
    while (true) {
      const end = rest.indexOf("\n\n")
      if (end !== -1) {
        const lines = rest.slice(0, end).split("\n")
        rest = rest.slice(end + 2)
        const field = (name: string) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? ""
        return { event: field("event"), data: JSON.parse(field("data")) as Heard["data"] }
      }
      const { done, value } = await reader.read()
      if (done) return undefined
      rest += decoder.decode(value, { stream: true })
    }
  }
  return {
    next: Effect.promise(next),
    /** Reads on until an event is as wanted. */
    until: (wanted: (event: Heard) => boolean) =>
      Effect.promise(async () => {
        while (true) {
          const event = await next()
          if (event === undefined) throw new Error("The stream has ended.")
          if (wanted(event)) return event
        }
      }),
    close: Effect.promise(() => reader.cancel())
  }
}

const handlerFor = Effect.fnUntraced(function* (access: Access.Access, jobs?: Jobs["Service"]) {
  const context = yield* Effect.context<Dashboard.Services>()
  const services = jobs === undefined ? context : Context.add(context, Jobs, jobs)
  const handle = Dashboard.handler(Layer.succeedContext(services), { access: () => Effect.succeed(access) })
  yield* Effect.addFinalizer(() => Effect.promise(() => handle.dispose()))
  const stream = (topics: string) =>
    Effect.promise(async () => listen(await handle(new Request(`http://jobs.test/api/events?topics=${topics}`))))
  const write = (path: string) =>
    Effect.promise(() =>
      handle(new Request(`http://jobs.test/api/${path}`, { method: "POST", headers: { "x-shigoto": "1" } }))
    )
  return { handle, stream, write }
})

const isChanged = (topic: string) => (event: Heard) =>
  event.event === "changed" && (event.data["topics"] as ReadonlyArray<string>).includes(topic)

layer(TestLive, { excludeTestServices: true })("streams", (it) => {
  it.effect("tell through node:http what changed in the database, by whomever", () =>
    Effect.gen(function* () {
      const { handle } = yield* handlerFor(everyone)
      const server = createServer(Dashboard.node(handle))
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
        () =>
          Effect.promise(async () => {
            server.closeAllConnections()
            await new Promise((resolve) => server.close(resolve))
          })
      )
      const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}` // listens on TCP
      const { id } = yield* Send.enqueue({}, { delay: "1 hour" })
      const response = yield* Effect.promise(() => fetch(`${base}/api/events?topics=overview,jobs,job:${id}`))
      assert.strictEqual(response.headers.get("x-accel-buffering"), "no")
      const events = listen(response)
      assert.strictEqual((yield* events.next)?.event, "hello")
      const first = yield* events.until(({ event }) => event === "changed")
      assert.sameMembers([...(first.data["topics"] as ReadonlyArray<string>)], ["overview", "jobs", `job:${id}`])
      const jobs = yield* Jobs
      const before = (yield* jobs.count({ state: "available" })).count
      yield* Send.enqueue({})
      yield* events.until(({ data, event }) => event === "counts" && data["waiting"] === before + 1)
      yield* jobs.cancel(id)
      yield* events.until(isChanged(`job:${id}`))
      yield* events.close
    }).pipe(Effect.scoped)
  )

  it.effect("tell at once what a viewer did here, and all of it as one to who reads slowly", () =>
    Effect.gen(function* () {
      const { stream, write } = yield* handlerFor(everyone)
      yield* (yield* CronJobs).upsert({ name: "nightly", cron: "@daily", job: Send, args: {} })
      const slow = yield* stream("queues,cron")
      yield* slow.until(isChanged("cron"))
      yield* Effect.forEach(Array.from({ length: 20 }), () => write("queues/mails/pause"))
      yield* write("queues/mails/resume")
      yield* write("cron/nightly/pause")
      let hints = 0
      yield* slow.until((event) => {
        if (event.event === "changed") hints++
        return isChanged("cron")(event)
      })
      // One that waited in the stream, one for all the rest, and room for a look in between.
      assert.isBelow(hints, 5)
      yield* slow.close
    }).pipe(Effect.scoped)
  )

  it.effect("end with the server that sends them", () =>
    Effect.gen(function* () {
      const { handle, stream } = yield* handlerFor(everyone)
      const events = yield* stream("jobs")
      assert.strictEqual((yield* events.next)?.event, "hello")
      yield* Effect.promise(() => handle.dispose())
      let last = yield* events.next
      while (last !== undefined) last = yield* events.next
    }).pipe(Effect.scoped)
  )
})

layer(TestLive)("looks", (it) => {
  it.effect("are one for all who watch, and none once nobody does", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      let looks = 0
      const counted: Jobs["Service"] = {
        ...jobs,
        health: Effect.andThen(
          Effect.sync(() => looks++),
          jobs.health
        )
      }
      const { stream } = yield* handlerFor(everyone, counted)
      assert.strictEqual(looks, 0)
      const all = yield* Effect.forEach(Array.from({ length: 5 }), () => stream("overview,queues,nodes,jobs"))
      yield* Effect.forEach(all, (events) => events.until(isChanged("overview")), { concurrency: "unbounded" })
      // The clock stands still: however many watch, what was seen is as fresh as it can be.
      assert.strictEqual(looks, 1)
      yield* Effect.forEach(all, (events) => events.close)
      yield* TestClock.adjust("1 hour")
      yield* jobs.count({})
      assert.strictEqual(looks, 1)
    }).pipe(Effect.scoped)
  )

  it.effect("count once for all who ask for the same, and again for what is another filter", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      let counts = 0
      const counted: Jobs["Service"] = {
        ...jobs,
        countStates: (filter) =>
          Effect.andThen(
            Effect.sync(() => counts++),
            jobs.countStates(filter)
          )
      }
      const { handle } = yield* handlerFor(everyone, counted)
      const get = (path: string) => Effect.promise(() => handle(new Request(`http://jobs.test/api/${path}`)))
      yield* Effect.forEach(Array.from({ length: 5 }), () => get("states?q=queue:mails"), { concurrency: 5 })
      assert.strictEqual(counts, 1)
      yield* get("states?q=queue:payments")
      assert.strictEqual(counts, 2)
      yield* TestClock.adjust("1 minute")
      yield* get("states?q=queue:mails")
      assert.strictEqual(counts, 3)
    }).pipe(Effect.scoped)
  )

  it.effect("are for topics that there are, and that exist for the viewer", () =>
    Effect.gen(function* () {
      const viewer = yield* open({ user: "mail team", can: "readOnly", queues: ["mails"] })
      const { id } = yield* Pay.enqueue({})
      const misspelt = yield* viewer("/api/events?topics=job")
      assert.strictEqual(misspelt.status, 400)
      assert.include(misspelt.text, "overview")
      const many = Array.from({ length: 21 }, (_, i) => `job:${i}`).join(",")
      assert.strictEqual((yield* viewer(`/api/pulse?topics=${many}`)).status, 400)
      const { digests } = (yield* viewer(`/api/pulse?topics=jobs,batches,limits,job:${id}`)).json()
      assert.deepStrictEqual(Object.keys(digests), ["jobs"])
    }).pipe(Effect.scoped)
  )

  it.effect("can be replaced by asking now and then: a digest changes with its topic alone", () =>
    Effect.gen(function* () {
      const viewer = yield* open(everyone)
      const { id } = yield* Send.enqueue({}, { delay: "1 hour" })
      const pulse = Effect.map(viewer(`/api/pulse?topics=cron,job:${id}`), (answer) => answer.json().digests)
      const before = yield* pulse
      assert.deepStrictEqual(yield* pulse, before)
      assert.strictEqual((yield* viewer(`/api/jobs/${id}/cancel`, post())).status, 200)
      const after = yield* pulse
      assert.notStrictEqual(after[`job:${id}`], before[`job:${id}`])
      assert.strictEqual(after["cron"], before["cron"])
    }).pipe(Effect.scoped)
  )
})
