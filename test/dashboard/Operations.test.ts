/**
 * Bulk operations: what was shown is what is done, by whom is known, and who asks for the end gets it.
 */
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Audit } from "../../src/Audit.ts"
import { Access, Dashboard } from "../../src/dashboard/index.ts"
import { type BulkProgress, Jobs } from "../../src/Jobs.ts"
import { eventually } from "../setup/eventually.ts"
import { type Answered, endpoints, everyone, fixture, open, Pay, post, requestFor, Send, TestLive } from "./support.ts"

type Viewer = Effect.Success<ReturnType<typeof open>>

/** Shows an operation and begins it. */
const run = Effect.fnUntraced(function* (viewer: Viewer, action: string, q: string, confirm?: string) {
  const shown = (yield* viewer(`/api/operations/${action}/preview`, post({ q }))).json()
  return yield* viewer(`/api/operations/${action}`, post({ q, token: shown.token, confirm }))
})

const ended = (viewer: Viewer, started: Answered) =>
  Effect.gen(function* () {
    assert.strictEqual(started.status, 200, started.text)
    const look = Effect.map(viewer(`/api/operations/${started.json().id}`), (answer) => answer.json())
    return yield* eventually(look, (operation) => operation.state !== "running")
  })

layer(TestLive)("operations", (it) => {
  it.effect("change what was shown, and nothing that came later", () =>
    Effect.gen(function* () {
      const viewer = yield* open(everyone)
      const jobs = yield* Jobs
      const meant = yield* Send.enqueueAll([{}, {}, {}], { tags: ["meant"] })
      const other = yield* Pay.enqueue({}, { tags: ["other"] })
      const q = "tag:meant queue:mails"
      const shown = (yield* viewer("/api/operations/cancel/preview", post({ q }))).json()
      assert.deepInclude(shown, { count: 3, isExact: true, confirm: null })
      assert.strictEqual(shown.sample.length, 3)
      const later = yield* Send.enqueue({}, { tags: ["meant"] })
      const started = yield* viewer("/api/operations/cancel", post({ q, token: shown.token }))
      const operation = yield* ended(viewer, started)
      assert.deepInclude(operation, { user: "root", action: "cancel", q, state: "done", expected: 3, changed: 3 })
      for (const { id } of meant) assert.strictEqual((yield* jobs.get(id)).state, "cancelled")
      for (const { id } of [other, later]) assert.strictEqual((yield* jobs.get(id)).state, "available")
      assert.strictEqual((yield* viewer("/api/operations")).json()[0].id, operation.id)
      const { entries } = (yield* viewer("/api/audit")).json()
      assert.deepInclude(entries[0], { user: "root", action: "cancel", subject: q, outcome: "done" })
    }).pipe(Effect.scoped)
  )

  it.effect("are refused where more match than were shown, or where they are not those that were shown", () =>
    Effect.gen(function* () {
      const viewer = yield* open(everyone)
      const jobs = yield* Jobs
      const early = yield* Send.enqueue({}, { tags: ["grows"], delay: "1 hour" })
      yield* Send.enqueue({}, { tags: ["grows"] })
      const q = "tag:grows state:available"
      const { token } = (yield* viewer("/api/operations/cancel/preview", post({ q }))).json()
      yield* jobs.retry(early.id)
      const grown = yield* viewer("/api/operations/cancel", post({ q, token }))
      assert.strictEqual(grown.status, 409)
      assert.include(grown.text, "2 jobs match now")
      for (const [action, body] of [
        ["delete", { q, token }],
        ["cancel", { q: "tag:other", token }],
        ["cancel", { q, token: "eA" }]
      ] as const) {
        assert.strictEqual((yield* viewer(`/api/operations/${action}`, post(body))).status, 400)
      }
      assert.strictEqual((yield* jobs.count({ tag: "grows", state: "available" })).count, 2)
    }).pipe(Effect.scoped)
  )

  it.effect("that delete, or mean everything, want the number typed; the host may set a limit", () =>
    Effect.gen(function* () {
      const viewer = yield* open(everyone)
      yield* Send.enqueueAll([{}, {}], { tags: ["gone"] })
      const q = "tag:gone"
      const shown = (yield* viewer("/api/operations/delete/preview", post({ q }))).json()
      assert.strictEqual(shown.confirm, "2")
      assert.strictEqual((yield* run(viewer, "delete", q)).status, 400)
      assert.strictEqual((yield* run(viewer, "delete", q, "3")).status, 400)
      const everything = (yield* viewer("/api/operations/cancel/preview", post({ q: "" }))).json()
      assert.strictEqual(everything.confirm, String(everything.count))
      const limited = yield* open(everyone, { bulkLimit: 1 })
      assert.strictEqual((yield* limited("/api/operations/delete/preview", post({ q }))).status, 400)
      assert.deepInclude(yield* ended(viewer, yield* run(viewer, "delete", q, "2")), { state: "done", changed: 2 })
      assert.strictEqual((yield* (yield* Jobs).count({ tag: "gone" })).count, 0)
    }).pipe(Effect.scoped)
  )

  it.effect("stay within what exists for who asks", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const mail = yield* Send.enqueue({}, { tags: ["both"] })
      const payment = yield* Pay.enqueue({}, { tags: ["both"] })
      const team = yield* open({ user: "mail team", can: Access.permissions, queues: ["mails"] })
      assert.deepInclude(yield* ended(team, yield* run(team, "cancel", "tag:both")), { changed: 1 })
      assert.strictEqual((yield* jobs.get(mail.id)).state, "cancelled")
      assert.strictEqual((yield* jobs.get(payment.id)).state, "available")
      const root = yield* open(everyone)
      const { id } = yield* ended(root, yield* run(root, "cancel", "tag:both"))
      assert.strictEqual((yield* team(`/api/operations/${id}`)).status, 404)
      assert.notInclude(
        (yield* team("/api/operations")).json().map((one: { id: number }) => one.id),
        id
      )
      const none = yield* team("/api/operations/cancel/preview", post({ q: "queue:payments" }))
      assert.strictEqual(none.status, 400)
    }).pipe(Effect.scoped)
  )

  /** An operation that waits in the midst of its work. */
  const held = Effect.gen(function* () {
    const context = yield* Effect.context<Dashboard.Services>()
    const gate = yield* Deferred.make<void>()
    const step = (matched: number): BulkProgress => ({
      matched,
      changed: matched,
      requested: 0,
      skipped: 0,
      failed: 0,
      problems: []
    })
    const jobs: Jobs["Service"] = {
      ...Context.get(context, Jobs),
      cancelBy: () =>
        Stream.concat(Stream.make(step(1)), Stream.fromEffect(Effect.as(Deferred.await(gate), step(2)))).pipe(
          Stream.concat(Stream.make(step(3)))
        )
    }
    const services = Layer.succeedContext(Context.add(context, Jobs, jobs))
    const handle = Dashboard.handler(services, { access: () => Effect.succeed(everyone) })
    yield* Effect.addFinalizer(() => Effect.promise(() => handle.dispose()))
    const ask = (path: string, body?: unknown) =>
      Effect.promise(async () => {
        const headers = { "x-shigoto": "1", "content-type": "application/json" }
        const init = { method: "POST", headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
        return (await handle(new Request(`http://jobs.test/api/operations/${path}`, init))).json() as Promise<{
          readonly id: number
          readonly token: string
          readonly outcome: string
        }>
      })
    const { token } = yield* ask("cancel/preview", { q: "tag:held" })
    const { id } = yield* ask("cancel", { q: "tag:held", token })
    const audit = yield* Audit
    yield* eventually(audit.operation(id), (operation) => operation?.changed === 1)
    return { ask, audit, gate, handle, id }
  })

  it.effect("end before their next portion where somebody asks for it", () =>
    Effect.gen(function* () {
      const { ask, audit, gate, id } = yield* held
      assert.strictEqual((yield* ask(`cancel/${id}/stop`)).outcome, "Stopping")
      yield* Deferred.succeed(gate, undefined)
      const operation = yield* eventually(audit.operation(id), (seen) => seen?.state !== "running")
      assert.deepInclude(operation, { state: "stopped", changed: 2 })
      assert.strictEqual((yield* ask(`cancel/${id}/stop`)).outcome, "Finished")
    }).pipe(Effect.scoped)
  )

  it.effect("end with the process that runs them, and say so", () =>
    Effect.gen(function* () {
      const { audit, handle, id } = yield* held
      yield* Effect.promise(() => handle.dispose())
      assert.deepInclude(yield* audit.operation(id), {
        state: "stopped",
        changed: 1,
        detail: "The process that ran it ended."
      })
    }).pipe(Effect.scoped)
  )
})

layer(TestLive)("the audit trail", (it) => {
  it.effect("has every write, and every look at what is hidden", () =>
    Effect.gen(function* () {
      const about = yield* fixture
      const viewer = yield* open({ user: "ada", can: Access.permissions })
      const newest = Effect.map(viewer("/api/audit?limit=1"), (answer) => answer.json().entries[0])
      for (const endpoint of endpoints.filter(({ method }) => method !== "GET")) {
        const [path, init] = requestFor(endpoint, about)
        if (/preview|stop$|breakers|limits/.test(path)) continue
        const before = yield* newest
        assert.strictEqual((yield* viewer(path, init)).status, 200, path)
        const after = yield* newest
        assert.isAbove(after.id, before.id, path)
        assert.strictEqual(after.user, "ada")
        if (!path.includes("/operations/")) assert.strictEqual(after.subject, path.slice("/api/".length))
      }
      const { id } = yield* Send.enqueue({ password: "canary-1" })
      const last = yield* newest
      assert.strictEqual((yield* viewer("/api/jobs/999999/cancel", post())).status, 404)
      assert.strictEqual((yield* viewer("/api/queues/mails/scale", post({ concurrency: 0 }))).status, 400)
      assert.strictEqual((yield* newest).id, last.id)
      yield* viewer(`/api/jobs/${id}`)
      assert.notStrictEqual((yield* newest).action, "reveal")
      yield* viewer(`/api/jobs/${id}?reveal=true`)
      assert.deepInclude(yield* newest, { action: "reveal", subject: `jobs/${id}`, user: "ada" })
    }).pipe(Effect.scoped)
  )

  it.effect("tells no secret that somebody searched for, and pages", () =>
    Effect.gen(function* () {
      const viewer = yield* open({ user: "ada", can: Access.permissions })
      yield* Send.enqueue({ password: "canary-1" })
      yield* ended(viewer, yield* run(viewer, "cancel", "args.password:canary-1"))
      const page = (yield* viewer("/api/audit?limit=1")).json()
      assert.notInclude(JSON.stringify(page), "canary")
      assert.include(page.entries[0].subject, "args.password")
      yield* viewer("/api/queues/mails/pause", post())
      const first = (yield* viewer("/api/audit?limit=1")).json()
      const second = (yield* viewer(`/api/audit?limit=1&after=${first.next}`)).json()
      assert.strictEqual(second.entries[0].id, page.entries[0].id)
    }).pipe(Effect.scoped)
  )
})
