import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { Work } from "./fixtures/jobs.ts"
import { diary, makeDiary, onDatabase, startNode, startProcess, tally } from "./support.ts"

class Down extends Schema.TaggedError<Down>("Down")("Down", {}) {}

const Call = Job.make("call", { args: { n: Schema.Int }, error: Down, maxAttempts: 1 })

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

describe("a circuit that all nodes share", () => {
  onDatabase("opens by the attempts of all nodes, lets just its probes through, and closes everywhere", () =>
    Effect.gen(function* () {
      let down = true
      let most = 0
      let running = 0
      const starts = new Map<string, number>()
      const gate = yield* Deferred.make<void>()
      const worker = (node: string) =>
        Call.toLayer(
          () =>
            Effect.suspend(() => {
              starts.set(node, (starts.get(node) ?? 0) + 1)
              if (down) return Effect.fail(new Down())
              most = Math.max(most, ++running)
              return Effect.andThen(
                Deferred.await(gate),
                Effect.sync(() => running--)
              )
            }),
          { concurrency: 1, circuitBreaker: { state: "shared", window: 6, openFor: "4 seconds", probes: 2 } }
        )
      const config = { queues: { default: 10, other: 10 } }
      const a = yield* startNode({ workers: worker("a"), config: { ...config, nodeName: "a" } })
      const b = yield* startNode({ workers: worker("b"), config: { ...config, nodeName: "b" } })
      const c = yield* startNode({ workers: worker("c"), config: { ...config, nodeName: "c" } })
      const told = (tag: string) => [a, b, c].flatMap((node) => node.events.filter(({ _tag }) => _tag === tag)).length
      yield* a.run(Call.enqueueAll(numbers(30)))
      yield* eventually(
        Effect.sync(() => told("CircuitOpened")),
        (count) => count > 0
      )
      // Six failures of all three; each may have had one more under way.
      const failed = yield* eventually(tally, (states) => states["executing"] === undefined)
      down = false
      yield* a.run(Call.enqueueAll(numbers(30), { queue: "other" }))
      const lost = failed["discarded"] ?? 0
      assert.isAtLeast(lost, 6)
      assert.isAtMost(lost, 8)
      yield* eventually(
        Effect.sync(() => running),
        (count) => count === 2
      )
      const rows = yield* eventually(tally, (states) => states["executing"] === 2)
      assert.deepStrictEqual(rows, { discarded: lost, executing: 2, available: 58 - lost })
      yield* Deferred.succeed(gate, undefined)
      const ended = yield* eventually(tally, (states) => states["completed"] === 60 - lost)
      assert.deepStrictEqual(ended, { discarded: lost, completed: 60 - lost })
      assert.deepStrictEqual(
        [told("CircuitOpened"), told("CircuitHalfOpened"), told("CircuitClosed")],
        [1, 1, 1],
        "each change is told once, by the node that made it"
      )
      assert.strictEqual(
        [...starts.values()].reduce((sum, count) => sum + count, 0),
        60
      )
      assert.isAtMost(most, 3)
    })
  )

  onDatabase(
    "opens again at the first probe that fails, for a node that has just started too",
    () =>
      Effect.gen(function* () {
        const starts: Array<number> = []
        const workers = Call.toLayer(
          ({ n }) =>
            Effect.andThen(
              Effect.sync(() => starts.push(n)),
              Effect.fail(new Down())
            ),
          { circuitBreaker: { state: "shared", window: 2, openFor: "1 second", probes: 1 } }
        )
        const first = yield* startNode({ workers })
        yield* first.run(Call.enqueueAll(numbers(2)))
        yield* first.event("CircuitOpened")
        yield* first.stop
        const second = yield* startNode({ workers })
        yield* second.run(Call.enqueueAll(numbers(20)))
        yield* second.event("CircuitHalfOpened")
        yield* second.event("CircuitOpened")
        const started = starts.length
        const { discarded = 0, ...rest } = yield* tally
        const probes = second.events.filter(({ _tag }) => _tag === "CircuitHalfOpened").length
        assert.isAtMost(discarded, 2 + probes)
        assert.strictEqual(discarded + (rest["available"] ?? 0) + (rest["executing"] ?? 0), 22)
        assert.isAtMost(started, 2 + probes)
      }),
    { isolation: "serializable" }
  )

  onDatabase("admits nothing while the database cannot say whether it is open", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      let started = 0
      const node = yield* startNode({
        workers: Call.toLayer(() => Effect.sync(() => started++), { circuitBreaker: { state: "shared" } })
      })
      yield* sql`ALTER TABLE shigoto.cells RENAME TO hidden`
      yield* node.run(Call.enqueueAll(numbers(5)))
      // Claims fail; whatever is claimed in spite of it would be running by the time another queue's job has run.
      const asked = yield* node.run(Job.make("unknown").enqueue({}))
      yield* eventually(node.jobs.get(asked.id), (job) => job.state === "available")
      yield* eventually(
        sql<{ readonly failed: number }>`
          SELECT xact_rollback::integer AS failed FROM pg_stat_database WHERE datname = current_database()`,
        ([row]) => (row?.failed ?? 0) >= 2
      )
      assert.strictEqual(started, 0)
      yield* sql`ALTER TABLE shigoto.hidden RENAME TO cells`
      yield* eventually(tally, (states) => states["completed"] === 5)
      assert.strictEqual(started, 5)
    })
  )

  onDatabase("explains what waits for it, and stops explaining it once it lets jobs through", () =>
    Effect.gen(function* () {
      let down = true
      const latch = Latch.makeUnsafe(false)
      const workers = Call.toLayer(() => Effect.suspend(() => (down ? Effect.fail(new Down()) : latch.await)), {
        circuitBreaker: { state: "shared", window: 1, openFor: "3 seconds", probes: 1 }
      })
      const node = yield* startNode({ workers, config: { nodeName: "one" } })
      yield* node.run(Call.enqueueAll(numbers(1)))
      yield* node.event("CircuitOpened")
      down = false
      const [probe, waiting] = yield* node.run(Call.enqueueAll(numbers(2)))
      assert.isDefined(probe)
      assert.isDefined(waiting)
      const open = yield* eventually(node.jobs.explain(waiting.id), ({ reasons }) =>
        reasons.some(({ _tag }) => _tag === "CircuitOpen")
      )
      assert.strictEqual(open.status, "waiting")
      assert.match(open.message, /the circuit of "call" is open on one, for another .*s/)
      yield* node.event("CircuitHalfOpened")
      yield* eventually(node.jobs.explain(probe.id), ({ status }) => status === "running")
      const probing = yield* node.jobs.explain(waiting.id)
      assert.match(probing.message, /the circuit of "call" is open on one, until its probes have succeeded/)
      latch.openUnsafe()
      yield* eventually(node.jobs.explain(waiting.id), ({ status }) => status === "finished")
    })
  )

  onDatabase(
    "takes the place of a prober whose process was killed for another probe, and never more than its number",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* makeDiary
        // Before anything could open, in one claim of one process each: jobs that fail, then the probes to be.
        const limits = {
          circuitBreaker: { state: "shared", window: 4, openFor: "1 second", probes: 2 },
          concurrency: 1
        } as const
        const config = { leaseTtl: "3 seconds", leaseBeat: "300 millis" } as const
        const processes = yield* Effect.all(
          Array.from({ length: 3 }, () => startProcess({ limits, config })),
          { concurrency: "unbounded" }
        )
        const node = yield* startNode({ config: { queues: {} } })
        yield* node.run(
          Work.enqueueAll(
            Array.from({ length: 4 }, () => ({ does: "fail" as const })),
            { maxAttempts: 1, priority: 10 }
          )
        )
        yield* eventually(tally, (states) => states["discarded"] === 4)
        yield* node.run(
          Work.enqueueAll(
            Array.from({ length: 2 }, () => ({ does: "linger" as const, millis: 6000 })),
            { priority: 5 }
          )
        )
        yield* node.run(Work.enqueueAll(Array.from({ length: 40 }, () => ({ does: "succeed" as const }))))
        yield* sql`
          CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN
            IF (SELECT value ->> 'phase' FROM shigoto.cells WHERE name = 'circuit:work') <> 'closed' THEN
              INSERT INTO seen SELECT count(*) FROM shigoto.jobs WHERE state = 'executing';
            END IF;
            RETURN NULL;
          END $$`
        yield* sql`CREATE TABLE seen (running integer)`
        yield* sql`CREATE TRIGGER watch AFTER UPDATE ON shigoto.jobs FOR EACH STATEMENT EXECUTE FUNCTION watch()`
        const probes = yield* eventually(
          Effect.map(diary, (lines) => lines.filter(({ what }) => what === "start").slice(4)),
          (lines) => lines.length === 2
        )
        const victim = processes.find(({ pid }) => pid === probes[0]?.pid)
        assert.isDefined(victim)
        victim.child.kill("SIGKILL")
        const again = yield* eventually(diary, (lines) =>
          lines.some(({ attempt, job, what }) => job === probes[0]?.job && attempt === 2 && what === "start")
        )
        // Nothing else has started meanwhile: its place was taken by nobody before its job was rescued.
        assert.strictEqual(again.filter(({ what }) => what === "start").length, 4 + 3)
        yield* eventually(tally, (states) => states["completed"] === 42)
        const [seen] = yield* sql<{ readonly most: number }>`SELECT max(running) AS most FROM seen`
        assert.isAtMost(seen?.most ?? 99, 2)
      })
  )
})
