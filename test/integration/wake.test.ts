import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { waitMillis } from "../../src/internal/herd.ts"
import * as Job from "../../src/Job.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { clientOf, onDatabase, startNode, tally } from "./support.ts"

const Note = Job.make("note", { args: { n: Schema.Number } })

/** Polls so rarely that only a wake-up can be the reason for what happens within a test. */
const patient = { pollInterval: "1 hour", idlePollInterval: "1 hour" } as const

/** The process ids of the connections that listen for notifications. */
const listeners = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly pid: number }>`
    SELECT pid FROM pg_stat_activity
    WHERE application_name LIKE 'shigoto-listener/%' AND datname = current_database()`
  return rows.map((row) => row.pid)
})

/** A node that counts, and has heard its own probe. */
const startListening = Effect.fnUntraced(function* (options: Parameters<typeof startNode>[0] = {}) {
  const ran: Array<number> = []
  const node = yield* startNode({
    workers: Note.toLayer(({ n }) => Effect.asVoid(Effect.sync(() => ran.push(n)))),
    ...options,
    config: { ...patient, ...options.config }
  })
  return { node, ran }
})

/** Inserts from outside of any node of this process, as another process would. */
const enqueueElsewhere = Effect.fnUntraced(function* (n: number, delayMillis = 0, queue = "default", priority = 0) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    SELECT shigoto.enqueue('note', jsonb_build_object('n', ${n}::integer),
      queue => ${queue},
      priority => ${priority}::integer,
      run_at => CASE
        WHEN ${delayMillis}::float8 > 0 THEN clock_timestamp() + ${delayMillis}::float8 * interval '1 millisecond'
      END)`
})

const arrives = (ran: ReadonlyArray<number>, n: number) =>
  eventually(
    Effect.sync(() => ran),
    (all) => all.includes(n)
  )

/** Enqueues elsewhere, again and again, until one arrives: by then the node listens. */
const heard = (ran: Array<number>) =>
  eventually(
    Effect.andThen(
      enqueueElsewhere(-1),
      Effect.sync(() => ran.length)
    ),
    (length) => length > 0
  ).pipe(
    Effect.andThen(eventually(tally, (counts) => Object.keys(counts).every((state) => state === "completed"))),
    Effect.andThen(Effect.sync(() => ran.splice(0)))
  )

/** Leases of nodes that serve a queue and do nothing. */
const register = Effect.fnUntraced(function* (count: number, queue: string, listening = true) {
  const store = yield* JobStore.make.pipe(Effect.provide(ShigotoConfig.layer()))
  for (let i = 0; i < count; i++) {
    const id = yield* store.register({ name: `${queue}-${i}`, ttlMillis: 3_600_000 })
    yield* store.renew({
      id,
      workers: ["note"],
      queues: [{ name: queue, concurrency: 1 }],
      limits: [],
      broken: [],
      lagMillis: 0,
      listening
    })
  }
  return store
})

/** A node among a hundred that serve a queue, the last in each line, whose turn comes when the test says so. */
const joinCrowd = Effect.fnUntraced(function* (run: (n: number) => Effect.Effect<void> = () => Effect.void) {
  yield* register(99, "crowded")
  const turns = yield* Latch.make()
  const ran: Array<number> = []
  /** `ahead` is by how many milliseconds the node's clock is ahead. */
  const crowd = { place: 0.99, waits: 0, ahead: 0 }
  const isTurn = (millis: number) => millis === waitMillis(100, 0.99)
  const real = yield* Clock.Clock
  const clock = Object.assign(Object.create(real) as Clock.Clock /* its heir */, {
    monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe() + BigInt(crowd.ahead) * 1_000_000n,
    sleep: (duration: Duration.Duration) => {
      if (!isTurn(Duration.toMillis(duration))) return real.sleep(duration)
      crowd.waits++
      return turns.await
    }
  })
  const node = yield* startNode({
    workers: Note.toLayer(({ n }) =>
      Effect.suspend(() => {
        ran.push(n)
        return run(n)
      })
    ),
    config: { ...patient, queues: { crowded: 2, default: 5 }, nodeName: "own" }
  }).pipe(
    Effect.provideService(Clock.Clock, clock),
    Effect.provideService(Random.Random, { nextDoubleUnsafe: () => crowd.place, nextIntUnsafe: () => 0 })
  )
  yield* heard(ran)
  // By a renewal's successor the node knows what that one counted.
  const sql = yield* SqlClient.SqlClient
  const renewals = Effect.map(
    sql<{ readonly beats: ReadonlyArray<Date> }>`
      SELECT array_agg(beat_at) AS beats FROM shigoto.nodes WHERE 'crowded' = ANY(queues) AND name = 'own'`,
    ([row]) => row?.beats?.[0]?.getTime() ?? 0
  )
  const first = yield* eventually(renewals, (at) => at > 0)
  yield* eventually(renewals, (at) => at > first)
  return Object.assign(crowd, { node, ran, turns })
})

describe("wake-ups", () => {
  onDatabase("a renewal counts who else hears of each queue", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* register(3, "many")
      yield* register(2, "many", false)
      yield* register(1, "one")
      yield* register(1, "dead")
      yield* sql`UPDATE shigoto.nodes SET expires_at = beat_at WHERE name LIKE 'dead%'`
      const id = yield* store.register({ name: "own", ttlMillis: 3_600_000 })
      const queues = ["one", "dead", "many", "none"].map((name) => ({ name, concurrency: 1 }))
      const published = { id, workers: [], queues, limits: [], broken: [], lagMillis: 0, listening: true }
      const first = yield* store.renew(published)
      assert.deepStrictEqual(first, { isLive: true, others: [1, 0, 3, 0] })
      assert.deepStrictEqual(yield* store.renew(published), first)
      yield* sql`UPDATE shigoto.nodes SET expires_at = beat_at - interval '1 second' WHERE id = ${id}`
      assert.deepStrictEqual(yield* store.renew(published), { isLive: false, others: [] })
    })
  )

  onDatabase("of many nodes one that is not among the first answers in its turn, once for all that it heard", () =>
    Effect.gen(function* () {
      const crowd = yield* joinCrowd()
      const { node, ran, turns } = crowd
      yield* enqueueElsewhere(1, 0, "crowded")
      yield* enqueueElsewhere(2, 0, "crowded")
      // Hints are heard in their order: with this one the two before it are heard.
      yield* enqueueElsewhere(3)
      yield* arrives(ran, 3)
      assert.deepStrictEqual([[...ran], crowd.waits], [[3], 1])
      yield* turns.open
      yield* arrives(ran, 1)
      yield* arrives(ran, 2)
      turns.closeUnsafe()
      crowd.place = 0
      yield* enqueueElsewhere(4, 0, "crowded")
      yield* arrives(ran, 4)
      assert.strictEqual(crowd.waits, 1)
      // What its own process enqueues is nobody else's.
      crowd.place = 0.99
      yield* node.run(Note.enqueue({ n: 5 }, { queue: "crowded" }))
      yield* arrives(ran, 5)
      assert.strictEqual(crowd.waits, 1)
    })
  )

  onDatabase("what a node leaves to others until its turn it takes first, where it claims for another reason", () =>
    Effect.gen(function* () {
      const ends = new Map<number, Deferred.Deferred<void>>()
      const end = (n: number) => Effect.map(Deferred.make<void>(), (made) => ends.set(n, made))
      for (let n = 1; n <= 6; n++) yield* end(n)
      const crowd = yield* joinCrowd((n) => {
        const made = ends.get(n)
        return made === undefined ? Effect.void : Deferred.await(made)
      })
      const { node, ran } = crowd
      // One after the other, so that the first claim comes back full, and the next would start above its last.
      yield* node.run(
        Note.enqueueAll(
          [1, 2, 3, 4, 5, 6].map((n) => ({ n })),
          { queue: "crowded" }
        )
      )
      for (const n of [1, 2]) yield* arrives(ran, n)
      yield* enqueueElsewhere(7, 0, "crowded", 10)
      yield* enqueueElsewhere(8)
      yield* arrives(ran, 8)
      assert.strictEqual(crowd.waits, 1)
      crowd.ahead += 1000
      const [first] = [...ends.values()]
      if (first !== undefined) yield* Deferred.succeed(first, undefined)
      yield* arrives(ran, 7)
      assert.deepStrictEqual(ran.slice(0, 4), [1, 2, 8, 7])
    })
  )

  onDatabase("a notification of another process starts a job at once, and many arrive as few", () =>
    Effect.gen(function* () {
      const { ran } = yield* startListening()
      yield* heard(ran)
      yield* enqueueElsewhere(1)
      yield* arrives(ran, 1)
      yield* Effect.forEach(
        Array.from({ length: 200 }, (_, n) => n),
        (n) => enqueueElsewhere(n),
        {
          concurrency: 8,
          discard: true
        }
      )
      yield* eventually(tally, (counts) => (counts.completed ?? 0) >= 202 && Object.keys(counts).length === 1)
    })
  )

  onDatabase("the statement that inserts a single job notifies, and no other follows it", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const { ran } = yield* startListening()
      yield* heard(ran)
      const sent: Array<string> = []
      const proxy = yield* makeProxy(Redacted.value(url), (chunk) => {
        sent.push(chunk.toString("latin1"))
        return chunk
      })
      const producer = yield* startNode({
        config: { ...patient, queues: {}, listen: false },
        client: clientOf(proxy.url)
      })
      yield* producer.run(Note.enqueue({ n: 1 }))
      yield* arrives(ran, 1)
      const notifying = sent.filter((text) => text.includes("pg_notify"))
      assert.strictEqual(notifying.length, 1)
      assert.include(notifying[0], "INSERT INTO")
    })
  )

  onDatabase("a job is stored although the server takes no more notifications", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { url } = yield* TestDatabase
      // As the server says at a commit when the queue of notifications is full.
      yield* sql`
        CREATE FUNCTION public.pg_n0tify(text, text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
          RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000';
        END $$`
      let refused = 0
      const proxy = yield* makeProxy(Redacted.value(url), (chunk) => {
        const text = chunk.toString("latin1")
        if (!text.includes("INSERT INTO") || !text.includes("pg_notify")) return chunk
        refused++
        return Buffer.from(text.replaceAll("pg_notify", "pg_n0tify"), "latin1")
      })
      const producer = yield* startNode({ config: { ...patient, queues: {} }, client: clientOf(proxy.url) })
      yield* producer.run(Note.enqueue({ n: 1 }))
      assert.strictEqual(refused, 1)
      assert.deepStrictEqual(yield* tally, { available: 1 })
    })
  )

  onDatabase("a scheduled job starts at its due instant, wherever it was enqueued", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { node, ran } = yield* startListening()
      yield* heard(ran)
      yield* node.run(Note.enqueue({ n: 1 }, { delay: "300 millis" }))
      yield* arrives(ran, 1)
      yield* enqueueElsewhere(2, 300)
      yield* arrives(ran, 2)
      const early = yield* sql`SELECT FROM shigoto.all_jobs WHERE claimed_at < run_at`
      assert.strictEqual(early.length, 0)
    })
  )

  onDatabase("a retryable and a snoozed job start at their due instant", () =>
    Effect.gen(function* () {
      const attempts: Array<number> = []
      const node = yield* startNode({
        workers: Note.toLayer(
          (_, job) =>
            Effect.suspend(() => {
              attempts.push(job.attempt)
              if (attempts.length === 1) return Effect.die("not yet")
              if (attempts.length === 2) return Job.snooze("200 millis")
              return Effect.void
            }),
          { retry: Schedule.spaced("200 millis") }
        ),
        config: { ...patient, listen: false }
      })
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      yield* node.event("Completed", id)
      assert.deepStrictEqual(attempts, [1, 2, 2])
    })
  )

  onDatabase("a node that cannot run a queue promotes for one that can", () =>
    Effect.gen(function* () {
      const { node, ran } = yield* startListening()
      yield* startNode({ config: { queues: { elsewhere: 1 } } })
      yield* node.run(
        Note.enqueueAll(
          Array.from({ length: 50 }, (_, n) => ({ n })),
          (_, n) => ({ delay: n * 20 })
        )
      )
      yield* arrives(ran, 49)
      yield* eventually(tally, (counts) => counts.completed === 50)
    })
  )

  onDatabase("a killed listener comes back and catches up", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { ran } = yield* startListening()
      yield* heard(ran)
      const [before] = yield* listeners
      // In one statement, so that the listener is certainly deaf when the notification goes out.
      yield* sql`
        WITH killed AS MATERIALIZED (SELECT pg_terminate_backend(${before}::integer, 5000) AS dead)
        SELECT shigoto.enqueue('note', '{"n": 1}') FROM killed WHERE dead`
      yield* arrives(ran, 1)
      yield* eventually(listeners, (pids) => pids.length === 1 && pids[0] !== before)
      yield* heard(ran)
    })
  )

  onDatabase("a half-open connection is found out and replaced", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const proxy = yield* makeProxy(Redacted.value(url))
      const { ran } = yield* startListening({
        config: { listenUrl: Redacted.make(proxy.url), leaseBeat: "2 seconds" }
      })
      yield* heard(ran)
      proxy.freeze()
      yield* enqueueElsewhere(1)
      yield* arrives(ran, 1)
      yield* heard(ran)
    })
  )

  onDatabase("polling is enough", () =>
    Effect.gen(function* () {
      const { node, ran } = yield* startListening({
        config: { listen: false, pollInterval: "100 millis", idlePollInterval: "1 hour" }
      })
      yield* enqueueElsewhere(1)
      yield* arrives(ran, 1)
      yield* enqueueElsewhere(2, 200)
      yield* arrives(ran, 2)
      assert.strictEqual((yield* listeners).length, 0)
      yield* node.stop
    })
  )

  onDatabase("behind a connection that never delivers it polls at the short interval", () =>
    Effect.gen(function* () {
      // A listener on another database: connected, subscribed, and deaf like one behind a pooler.
      const { url } = yield* TestDatabase
      const elsewhere = new URL(Redacted.value(url))
      elsewhere.pathname = "/postgres"
      const { ran } = yield* startListening({
        config: {
          listenUrl: Redacted.make(elsewhere.toString()),
          pollInterval: "100 millis",
          idlePollInterval: "1 hour"
        }
      })
      yield* enqueueElsewhere(1)
      yield* arrives(ran, 1)
    })
  )

  onDatabase("an executing job is cancelled by notification alone, and by polling alone", () =>
    Effect.gen(function* () {
      const run = Effect.fnUntraced(function* (config: object, queue: string) {
        const started = yield* Deferred.make<void>()
        const finalized = yield* Deferred.make<void>()
        const node = yield* startNode({
          workers: Note.toLayer(() =>
            Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
              Effect.ensuring(Deferred.succeed(finalized, undefined))
            )
          ),
          config: { ...config, queues: { [queue]: 1 } }
        })
        const other = yield* startNode({ config: { listen: false, queues: { unused: 1 } } })
        const { id } = yield* node.run(Note.enqueue({ n: 1 }, { queue }))
        yield* Deferred.await(started)
        if (queue === "notified") yield* eventually(listeners, (pids) => pids.length === 1)
        const result = yield* other.jobs.cancel(id, "enough")
        assert.strictEqual(result._tag, "Requested")
        yield* Deferred.await(finalized)
        yield* node.event("Cancelled", id)
        const job = yield* node.jobs.get(id)
        assert.strictEqual(job.state, "cancelled")
        assert.strictEqual(job.cancelReason, "enough")
      })
      yield* run(patient, "notified")
      yield* run({ listen: false, pollInterval: "200 millis", idlePollInterval: "1 hour" }, "polled")
    })
  )

  onDatabase("a dead proxy does not stop a node whose other connections live", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const proxy = yield* makeProxy(Redacted.value(url))
      const { node, ran } = yield* startListening({
        client: clientOf(proxy.url),
        config: { pollInterval: "200 millis", idlePollInterval: "200 millis" }
      })
      yield* node.run(Note.enqueue({ n: 1 }))
      yield* arrives(ran, 1)
      proxy.cut()
      yield* enqueueElsewhere(2)
      yield* arrives(ran, 2)
    })
  )
})
