import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it, layer } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Batch from "../src/Batch.ts"
import { check, type Filter, format, isEmpty, parse } from "../src/Filter.ts"
import { fingerprintOf } from "../src/internal/fingerprint.ts"
import * as Job from "../src/Job.ts"
import { type JobId, states } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { eventually } from "./setup/eventually.ts"
import { oddNames } from "./setup/oddNames.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const read = (text: string) => Result.getOrThrow(parse(text))
const refused = (text: string) => {
  const result = parse(text)
  return Result.isFailure(result) ? result.failure.field : undefined
}

/** Numbers below one, the same in every run. */
const randomOf = (seed: number) => () => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
  return seed / 2 ** 32
}

/** A random filter as `parse` gives it: one value alone, several as a list. */
const draw = (random: () => number): Filter => {
  const int = (max: number) => Math.floor(random() * max)
  const pick = <A>(items: ReadonlyArray<A>): A => items[int(items.length)] as A
  const some = <A>(one: () => A) => {
    const list = [...new Set(Array.from({ length: 1 + int(3) }, one))]
    return list.length === 1 ? list[0] : list
  }
  const name = () => pick([...oddNames, "a,b", 'say "hi"', "a b", "x:y", "a..b", "[", "}", "\\", "<3", "true", "42"])
  const number = () => int(2 ** 31) - 2 ** 30
  const numbers = () =>
    pick([
      () => some(number),
      () => ({ min: number() }),
      () => ({ max: number() }),
      () => ({ min: 1, max: number() })
    ])()
  const moment = () =>
    pick([() => DateTime.makeUnsafe(int(4e12)), () => Duration.millis(int(1e12)), () => Duration.hours(int(100))])()
  const times = () =>
    pick([() => ({ from: moment() }), () => ({ to: moment() }), () => ({ from: moment(), to: moment() })])()
  const json = (depth: number): unknown =>
    pick<() => unknown>([
      name,
      number,
      () => pick([true, false, null, "", "null", "1e3", 0.5, {}, []]),
      ...(depth > 3
        ? []
        : [
            () => [json(depth + 1), json(depth + 1)],
            () => ({ [name()]: json(depth + 1), [`k${int(9)}`]: json(depth + 1) })
          ])
    ])()
  const fields: Record<string, () => unknown> = {
    id: numbers,
    worker: () => some(name),
    queue: () => some(name),
    state: () => some(() => pick(states)),
    tag: () => some(name),
    batch: numbers,
    partitionKey: () => some(name),
    fingerprint: () => some(name),
    error: () => some(name),
    node: () => some(name),
    cron: () => some(name),
    priority: numbers,
    attempt: numbers,
    inserted: times,
    due: times,
    finished: times,
    args: () => json(0),
    meta: () => ({ [name()]: json(0), __proto__: null })
  }
  return Object.fromEntries(
    Object.entries(fields).flatMap(([field, value]) => (random() < 0.3 ? [[field, value()]] : []))
  ) as Filter
}

describe("the text", () => {
  it("reads as the filter that it was written from, for 3,000 random filters", () => {
    const random = randomOf(7)
    for (let i = 0; i < 3000; i++) {
      const filter = draw(random)
      const text = format(filter)
      const again = read(text)
      assert.deepStrictEqual(Result.getOrThrow(check(again)), Result.getOrThrow(check(filter)), text)
      assert.strictEqual(format(again), text)
    }
  })
  it("says what it means", () => {
    assert.deepStrictEqual(
      read('worker:SendEmail queue:emails,default state:retryable tag:vip tag:eu args.user.id:42 args.city:"New York"'),
      {
        worker: "SendEmail",
        queue: ["emails", "default"],
        state: "retryable",
        tag: ["vip", "eu"],
        args: { user: { id: 42 }, city: "New York" }
      }
    )
    assert.deepStrictEqual(read("id:10..20 priority:<3 attempt:>=3 batch:7"), {
      id: { min: 10, max: 20 },
      priority: { max: 2 },
      attempt: { min: 3 },
      batch: 7
    } as unknown as Filter)
    assert.strictEqual(
      format(read("inserted:>1h finished:2026-01-31..90m due:<1500ms")),
      "inserted:..1h due:1500ms.. finished:2026-01-31T00:00:00.000Z..90m"
    )
    assert.deepStrictEqual(read('args.n:"42" args.b:true args.w:word args."a.b":[1, 2]'), {
      args: { n: "42", b: true, w: "word", "a.b": [1, 2] }
    })
    assert.deepStrictEqual(read("  \n "), {})
  })
  it("refuses what makes no sense, by name", () => {
    const fields = [
      "nope",
      "wroker:x",
      "state:done",
      "worker:a worker:b",
      "tag:a,b",
      "priority:high",
      "priority:1 priority:2",
      "inserted:1h",
      "inserted:>2026-01-01",
      "finished:yesterday..",
      "inserted:1h..2h..3h",
      "args.a:1 args.a:2",
      "args.a:1 args:2",
      "worker.x:1",
      "worker:a,,b",
      'queue:"open',
      "id:99999999999999999",
      "meta:1"
    ].map(refused)
    assert.deepStrictEqual(fields, [
      "filter",
      "wroker",
      "state",
      "worker",
      "tag",
      "priority",
      "priority",
      "inserted",
      "inserted",
      "finished",
      "inserted",
      "args.a",
      "args",
      "worker.x",
      "worker",
      "queue",
      "id",
      "meta"
    ])
  })
  it("knows a filter that asks for nothing", () => {
    const empty = (filter: Filter) => isEmpty(Result.getOrThrow(check(filter)))
    assert.isTrue(empty({}) && empty({ worker: undefined }))
    assert.isFalse(empty({ args: null }) || empty({ tag: "x" }) || empty({ due: { to: 0 } }))
  })
})

describe("fingerprints", () => {
  it("are the same for failures that differ in numbers, ids and quotes, and for no others", () => {
    const print = (message: string, tag = "Error", worker = "w") => fingerprintOf(worker, tag, message)
    const alike = [
      'Order 42 of "ada" was not found after 3.5 s (ref 7c9e6679-7425-40de-944b-e07fc1f90ae7)',
      'Order 7 of "grace" was not found after 12 s (ref 0d4a1d4b-0000-40de-944b-e07fc1f90ae7)\n  at line 3'
    ].map((message) => print(message))
    assert.strictEqual(alike[0], alike[1])
    assert.match(alike[0] ?? "", /^[0-9a-f]{14}$/)
    const others = [
      print("Order was lost"),
      print("Order was lost", "Boom"),
      print("Order was lost", "Error", "v"),
      print("")
    ]
    assert.strictEqual(new Set([...others, ...alike]).size, 5)
    // Stored failures are found by it in later versions, too.
    assert.strictEqual(print("connect ECONNREFUSED 10.0.0.1:5432"), print("connect ECONNREFUSED 10.0.0.2:5433"))
  })
})

class Boom extends Schema.TaggedError<Boom>("test/Boom")("Boom", { message: Schema.String }) {}
const Risky = Job.make("risky", { args: { n: Schema.Int, how: Schema.String }, error: Boom, maxAttempts: 1 })
const RiskyLive = Risky.toLayer(({ how, n }) =>
  how === "fine" ? Effect.void : Effect.fail(new Boom({ message: `${how} ${n}` }))
)

const node = RiskyLive.pipe(
  Layer.provideMerge(Shigoto.layer),
  Layer.provide(ShigotoConfig.layer({ nodeName: "here", queues: { work: 5 }, listen: false })),
  Layer.provideMerge(TestDatabase.layer())
)

layer(node, { excludeTestServices: true })("Jobs.list, count and failures", (it) => {
  it.effect("find by every field, in three orders, page by page", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const ids = (yield* Risky.enqueueAll(
        Array.from({ length: 9 }, (_, n) => ({ n, how: ["fine", "timeout", "refused"][n % 3] ?? "" })),
        ({ n }) => ({
          queue: "work",
          priority: n,
          tags: n > 4 ? ["late", "x"] : ["x"],
          meta: { k: { n } },
          partitionKey: `p${n % 2}`
        })
      )).map((result) => result.id)
      yield* eventually(jobs.count({ finished: { to: Duration.zero } }), ({ count }) => count === 9)
      const batch = yield* Batch.make("some").open()
      const later = (yield* Risky.enqueueAll(
        [1, 2, 3].map((n) => ({ n, how: "later" })),
        ({ n }) => ({ delay: `${4 - n} hours`, ...(n === 2 && { batch }) })
      )).map((result) => result.id)
      const sql = yield* PgClient.PgClient
      yield* sql`
        INSERT INTO shigoto.cron_ticks (name, tick, outcome, job_id, inserted_at)
        VALUES ('nightly', now(), 'inserted', ${BigInt(ids[4] ?? 0)}, now()), ('nightly', now() - interval '1 day', 'skipped', NULL, now())`
      const found = Effect.fnUntraced(function* (filter: Filter) {
        return (yield* jobs.list(filter)).map(({ id }) => [...ids, ...later].indexOf(id))
      })
      const wanted: ReadonlyArray<readonly [string, ReadonlyArray<number>]> = [
        ["state:completed", [6, 3, 0]],
        ["state:discarded,scheduled", [11, 10, 9, 8, 7, 5, 4, 2, 1]],
        ["queue:work tag:x tag:late", [8, 7, 6, 5]],
        ["priority:>=7", [8, 7]],
        ["args.how:refused partitionKey:p1", [5]],
        ["args.n:3 meta.k.n:3", [3]],
        ["worker:other", []],
        ["worker:risky attempt:0", [11, 10, 9]],
        [`id:${ids[1]},${ids[2]}`, [2, 1]],
        [`id:..${ids[1]}`, [1, 0]],
        ["inserted:1h.. finished:..1h", []],
        ["finished:1h.. args.how:fine", [6, 3, 0]],
        [`batch:${batch}`, [10]],
        [`batch:>${batch}`, []],
        ["due:1h..0s", [8, 7, 6, 5, 4, 3, 2, 1, 0]],
        ["due:0s..", [11, 10, 9]],
        ["error:refused", [8, 5, 2]],
        ["error:timeout,Boom", [8, 7, 5, 4, 2, 1]],
        ['error:"Bo"', []],
        ["error:fine", []],
        ["node:here", [8, 7, 6, 5, 4, 3, 2, 1, 0]],
        ["node:here error:timeout", [7, 4, 1]],
        ["node:there", []],
        ["cron:nightly,daily", [4]],
        ["cron:daily", []]
      ]
      for (const [text, expected] of wanted) assert.deepStrictEqual(yield* found(read(text)), expected, text)

      const paged = Effect.fnUntraced(function* (order: "newest" | "due" | "finished") {
        const all: Array<JobId> = []
        let after: ReturnType<typeof pages> | undefined
        const pages = (rows: Effect.Success<ReturnType<typeof jobs.list>>) => rows.at(-1)
        while (true) {
          const page = yield* jobs.list({ worker: "risky", order, after, limit: 2 })
          all.push(...page.map(({ id }) => id))
          if (page.length < 2) return all
          after = pages(page)
        }
      })
      assert.deepStrictEqual(yield* paged("newest"), [...ids, ...later].toReversed())
      assert.deepStrictEqual(yield* paged("due"), later.toReversed())
      const byEnd = yield* jobs.list({ order: "finished" })
      assert.deepStrictEqual(
        yield* paged("finished"),
        byEnd.map(({ id }) => id)
      )
      const ends = byEnd.map(({ finishedAt }) => finishedAt?.epochMilliseconds ?? 0)
      assert.deepStrictEqual(
        ends,
        ends.toSorted((a, b) => b - a)
      )
      assert.strictEqual(ends.length, 9)

      const groups = yield* jobs.failures()
      assert.deepStrictEqual(
        groups.map((group) => [group.count, group.isExact, group.failure.tag, group.worker, group.sample]),
        [
          [3, true, "Boom", "risky", ids[8]],
          [3, true, "Boom", "risky", ids[7]]
        ]
      )
      for (const { fingerprint, firstSeen, lastSeen } of groups) {
        assert.isTrue(firstSeen.epochMilliseconds <= lastSeen.epochMilliseconds)
        assert.deepStrictEqual(yield* jobs.count({ fingerprint }), { count: 3, isExact: true })
      }
      const [sample] = yield* jobs.list({ fingerprint: groups[0]?.fingerprint, limit: 1 })
      assert.strictEqual(sample?.fingerprint, sample?.errors.at(-1)?.fingerprint)
    })
  )
  it.effect("count up to ten thousand, and read no more", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const jobs = yield* Jobs
      yield* sql`
        INSERT INTO shigoto.jobs_archive (id, run_at, inserted_at, finished_at, epoch, priority, attempt, max_attempts,
          state, queue, worker, args, errors, fingerprint)
        SELECT 1000000 + n, now(), now(), now(), 1, 0, 1, 1, 'discarded', 'bulk', 'bulk', '{}',
          jsonb_build_array(jsonb_build_object('attempt', 1, 'at', '2026-01-01T00:00:00Z', 'node', 'n', 'tag', 'T', 'message', 'm')),
          'f' || n % 2
        FROM generate_series(1, 20002) AS n`
      assert.deepStrictEqual(yield* jobs.count({ worker: "bulk" }), { count: 10_000, isExact: false })
      const groups = (yield* jobs.failures({ limit: 2 })).map(({ count, fingerprint, isExact }) => [
        fingerprint,
        count,
        isExact
      ])
      assert.deepStrictEqual(groups, [
        ["f0", 10_000, false],
        ["f1", 10_000, false]
      ])
    })
  )
})
