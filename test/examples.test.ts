import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { TestDatabase } from "./setup/TestDatabase.ts"
import * as Redacted from "effect/Redacted"

const folder = Path.join(import.meta.dirname, "..", "examples")

interface Ran {
  readonly code: number
  readonly output: string
}

/** Runs an example the way a newcomer does, on a database of the test's own. */
const run = (name: string, url: string): Effect.Effect<Ran> =>
  Effect.callback((resume) => {
    const child = execFile(
      process.execPath,
      ["--conditions=source", Path.join(folder, name)],
      { env: { ...process.env, DATABASE_URL: url, NO_COLOR: "1" } },
      (error, stdout, stderr) =>
        resume(Effect.succeed({ code: error === null ? 0 : Number(error.code ?? -1), output: stdout + stderr }))
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** What each example must say, in order; a new example gets its lines here. */
const examples: Readonly<Record<string, ReadonlyArray<RegExp>>> = {
  "quickstart.ts": [/Attempt 1: "Hi" goes to ada@example\.com/, /Job \d+ is completed: \{ messageId: 'message-\d+' \}/],
  "transactional-enqueue.ts": [/Committed: job \d+ is available/, /Rolled back by OutOfStock: 1 order, 1 job/],
  "rate-limiter-store.ts": [
    /Login: allowed, 0 left/,
    /Login: too many attempts/,
    /Quote: the service is down/,
    /Quote: not asked, the circuit is open/
  ],
  "broadcast.ts": [
    /each node runs a copy of it, 2 so far/,
    /kyoto forgets price/,
    /On kyoto it is completed/,
    /On osaka it is completed/,
    /On tokyo it is completed/
  ],
  "adaptive.ts": [/At a capacity of 10: \d+ at once, \d+ of 500 calls refused/, /At a capacity of 3: \d at once/],
  "circuit-breaker.ts": [
    /CircuitOpened/,
    /Job \d+ is waiting: the circuit of "charge" is open on .*, for another/,
    /CircuitHalfOpened/,
    /CircuitClosed/,
    /20 invoices are paid with 24 calls/
  ],
  "shedding.ts": [/3 payments are through, while 2 of 6 reports run/, /6 reports are done/],
  "prometheus.ts": [/shigoto_attempts_total\{.*outcome="completed".*\} 3/, /\/health\/ready: \{"status":"ready"\}/],
  "dashboard.ts": [
    /A stranger gets 401/,
    /Job is discarded: .*The mail server is away.*; args \{"to":"ada@example\.com","password":"••••••"\}/,
    /New: \{"topics":\[.*"jobs".*\]\}/,
    /Bob: This needs the permission jobs:retry/,
    /Retry of 1: done, 1 changed/
  ],
  "tracing.ts": [
    /"?to ada@example\.com/,
    /enqueue emails \(producer\): under POST \/signup/,
    /POST \/signup \(internal\)/,
    /smtp \(internal\): under process emails/,
    /process emails \(consumer\): under a trace of its own, linked to 1 span/
  ],
  "opentelemetry.ts": [
    /POST \/images \(INTERNAL\) of "gallery"/,
    /enqueue images \(PRODUCER\) of "gallery"/,
    /process images \(CONSUMER\) of "gallery"/,
    /sharp \(INTERNAL\) of "gallery"/,
    /The attempt is linked to the enqueue: true; of its trace: false/,
    /shigoto_attempts_total in "1": .*"outcome":"completed"/,
    /shigoto_attempt_run_seconds in "seconds": \{"worker":"resize","queue":"images"/,
    /Logged: .*resizes a\.png.* with .*"worker":"resize"/
  ],
  "otlp.ts": [
    /Traces: enqueue thumbnails, process thumbnails/,
    /Metrics: .*shigoto_attempts_total.*shigoto_jobs_inserted_total/,
    /Logs: drew a\.png/
  ],
  "cron.ts": [
    /Report of Tokyo for .*:\d\d\.000Z/,
    /Berlin's next tick: .*T0[01]:30:00\.000Z/,
    /Report of Berlin for /,
    /berlin-mornings: 30 2 \* \* \* Europe\/Berlin, from database/,
    /each-second: \* \* \* \* \* \* UTC, from code, paused/,
    /Refused: .*"night" cannot be used: hours: "25"/
  ],
  "unique.ts": [
    /reindex: Inserted/,
    /reindex: Existing/,
    /remind: Inserted, args are \{"text":"first","user":"ada"\}|remind: Inserted, args are \{"user":"ada","text":"first"\}/,
    /remind: Replaced, args are .*"second"/,
    /save: Inserted, args are .*"version":1/,
    /save: Debounced, args are .*"version":3/,
    /3 jobs/
  ],
  "bulk.ts": [
    /250 × sync failed like job \d+: connect ETIMEDOUT for customer \d+/,
    /retried 250 of 250/,
    /all done, 0 could not be retried/,
    /deleted 750 of worker:sync/,
    /Refused: An empty filter means every job/,
    /Refused: wroker cannot be/
  ],
  "import-pg-boss.ts": [
    /moved 4 jobs and 1 schedule/,
    /stays: [0-9a-f-]{36}: Missing key/,
    /pg-boss holds 1 × send-welcome, created/,
    /again: moved 0 jobs/,
    /\{"to":"joan@example\.com"\} is due at .*2100-01-01/,
    /send-welcome: 30 8 \* \* \* Europe\/Berlin/
  ],
  "import-graphile-worker.ts": [
    /moved 3 jobs/,
    /stays: \d+: Expected number/,
    /graphile-worker holds 1 × sync_account, waiting/,
    /again: moved 0 jobs/,
    /\{"user":"ada"\} is due at .*2100-01-01/,
    /enqueued again: Replaced, due at .*2100-02-01/
  ],
  "encryption.ts": [
    /the handler gets 4242 4242 4242 4242/,
    /the result is "charged 4242"/,
    /the database holds \{"\$enc": "1\.2026\./,
    /without the cipher it needs the key 2026/
  ],
  "roles.ts": [
    /the producer has enqueued job \d+/,
    /the producer may not read it: .*permission denied/,
    /the worker ran it, the viewer reads "Hello Ada"/,
    /the viewer may not retry it: .*permission denied/,
    /the operator may: Retried/
  ],
  "fair-queue.ts": [/The small tenant's job was number [12] of 1001/],
  "aging.ts": [/The job of low priority was number 1 of 101/],
  "queue-weights.ts": [/Of 400 jobs that started while both queues had work, (2[5-9]|3\d)\d were payments/],
  "execute.ts": [
    /valid: paid, receipt \d+\/1999/,
    /expired: declined with card_expired/,
    /stolen: Job \d+ of "charge" was discarded: Discard: the card was reported/,
    /slow: not waited for, it is executing/,
    /slow: paid later, receipt \d+\/5/
  ],
  "deadlines.ts": [
    /push to ada, in time/,
    /mail to joan, instead of a late push/,
    /job \d+: It had not started before .*; a job of "mail" takes its place\./,
    /job \d+: It had not started before [^;]*Z\./
  ],
  "limits.ts": [/10 renders, at most 2 at once/, /8 calls, 5 in the first second, 3 after the pause/],
  "flow.ts": [
    /order 1: 0 of 4 done, charge available, pack available, ship blocked, report blocked/,
    /report: order 1 was shipped/,
    /order 1: 4 of 4 done, tracking T-parcel-1-r1/,
    /report: order 2 was not shipped: the card was declined with 51/,
    /order 2: charge discarded, pack completed, ship cancelled, report completed/,
    /order 2, after its retry: 4 of 4 done, tracking T-parcel-2-r2/
  ],
  "batch.ts": [
    /batch \d+: 3 members, 3 pending/,
    /batch \d+: 5 members, 4 completed, 1 discarded/,
    /retried 1/,
    /all are converted: 5 of 5, completed/,
    /BatchClosed: 1 completed/
  ],
  "dependencies.ts": [
    /the book is blocked/,
    /it waits for jobs \d+ \(pages, available\)/,
    /log: no page: tray 2 is empty/,
    /the book is cancelled\. It waited for job \d+, which was discarded/,
    /after a retry of one page: 3 pages, 1600 words/,
    /MissingDependencies: There are no jobs 999999/
  ],
  "fan-out.ts": [
    /Job \d+ is waiting: it waits for its children \d+ \(thumbnails, available\), .*/,
    /Meanwhile another job ran/,
    /The album is completed after 1 attempt: thumbnails of 5 photos, 140 KiB/
  ],
  "middleware.ts": [
    /report for acme: 3 rows/,
    /closed: connection of acme/,
    /cached: 3 rows/,
    /report for globex waits: snoozed 1 time/
  ],
  "scheduling.ts": [
    /the milk: scheduled/,
    /Remember the milk/,
    /the milk: completed/,
    /the party: scheduled for 2100-01-01T00:00:00\.000Z/,
    /Remember the party/,
    /the party: completed/,
    /the dentist: cancelled/,
    /the export: ready, asked 3 times/
  ],
  "retries.ts": [
    /good: completed, attempt 3 of 4, 0 snoozes \[1: GatewayDown, 2: GatewayDown\]/,
    /slow: completed, attempt 1 of 4, 2 snoozes \[\]/,
    /stolen: discarded, attempt 1 of 4, 0 snoozes \[1: Discard\]/,
    /unlucky: discarded, attempt 4 of 4, 0 snoozes \[1: GatewayDown, .* 4: GatewayDown\]/
  ]
}

/** Run elsewhere: by CI on its own, and as a test file. */
const elsewhere = ["demo.ts", "testing.ts"]

describe("examples", () => {
  it("has a test for each", () => {
    const names = Fs.readdirSync(folder).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    assert.sameMembers(names, [...Object.keys(examples), ...elsewhere.filter((name) => names.includes(name))])
  })

  for (const [name, lines] of Object.entries(examples)) {
    it.live(`runs ${name}`, () =>
      Effect.gen(function* () {
        const database = yield* TestDatabase
        const { code, output } = yield* run(name, Redacted.value(database.url))
        assert.strictEqual(code, 0, output)
        let from = 0
        for (const line of lines) {
          const found = output.slice(from).search(line)
          assert.isAtLeast(found, 0, `${line} is not in, or not in this order: ${output}`)
          from += found
        }
      }).pipe(Effect.provide(TestDatabase.layerDatabase({ empty: true })))
    )
  }
})
