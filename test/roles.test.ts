import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { inspect } from "node:util"
import * as Job from "../src/Job.ts"
import { Jobs } from "../src/Jobs.ts"
import * as Migrations from "../src/Migrations.ts"
import * as Shigoto from "../src/Shigoto.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { onDatabase, reaches, startNode } from "./integration/support.ts"
import * as Run from "./setup/run.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const Add = Job.make("add", { args: { a: Schema.Finite }, success: Schema.Finite })

/** Makes a login for each part, and clients that use them. */
const logins = Effect.gen(function* () {
  const database = yield* TestDatabase
  const sql = yield* SqlClient.SqlClient
  const name = (part: string) => `${database.name}"${part}`
  const roles = { worker: name("worker"), producer: name("producer"), viewer: name("viewer") }
  for (const role of Object.values(roles)) {
    yield* sql.unsafe(`CREATE ROLE "${role.replaceAll(`"`, `""`)}" LOGIN PASSWORD 'secret'`)
  }
  const script = Migrations.printGrants("shigoto", roles)
  for (const statement of script.split(";\n").filter((text) => text !== "")) yield* sql.unsafe(statement)
  const client = (role: string) => {
    const url = new URL(Redacted.value(database.url))
    url.username = encodeURIComponent(role)
    url.password = "secret"
    return Run.layerClient(url.href, { maxConnections: 4 })
  }
  return { worker: client(roles.worker), producer: client(roles.producer), viewer: client(roles.viewer) }
})

const isRefused = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.match(effect, {
    // Either no privilege, or not the owner.
    onFailure: (error) => /permission denied|must be owner/.test(inspect(error, { depth: 10 })),
    onSuccess: () => false
  })

const can = Effect.fnUntraced(function* (client: Layer.Layer<SqlClient.SqlClient, unknown>, statement: string) {
  const sql = Context.get(yield* Effect.orDie(Layer.build(Layer.fresh(client))), SqlClient.SqlClient)
  return !(yield* isRefused(sql.unsafe(statement)))
})

describe("roles", () => {
  onDatabase("a worker runs a whole node and upkeep, a producer enqueues and reads nothing, a viewer only reads", () =>
    Effect.gen(function* () {
      const { producer, viewer, worker } = yield* logins
      const node = yield* startNode({
        workers: Add.toLayer(({ a }) => Effect.succeed(a + 1)),
        client: worker,
        config: { migrate: false }
      })
      const enqueued = yield* Add.enqueue({ a: 1 }).pipe(
        Effect.provide(
          Shigoto.layerProducer.pipe(
            Layer.provide(ShigotoConfig.layer({ migrate: false })),
            Layer.provide(producer),
            Layer.fresh
          )
        )
      )
      assert.strictEqual((yield* reaches(node, enqueued.id, "completed")).result, 2)
      const unique = yield* node.run(Add.enqueue({ a: 2 }, { unique: { keys: ["args"] } }))
      assert.strictEqual((yield* reaches(node, unique.id, "completed")).result, 3)
      assert.strictEqual(yield* node.run(Add.execute({ a: 3 })), 4)
      const seen = yield* Effect.flatMap(Jobs, (jobs) => jobs.get(enqueued.id)).pipe(
        Effect.provide(
          Shigoto.layerProducer.pipe(
            Layer.provide(ShigotoConfig.layer({ migrate: false })),
            Layer.provide(viewer),
            Layer.fresh
          )
        )
      )
      assert.deepStrictEqual(seen.args, { a: 1 })
      const table: ReadonlyArray<readonly [string, boolean, boolean, boolean]> = [
        ["SELECT shigoto.maintain_archive('completed', now(), interval '14 days')", true, false, false],
        ["SELECT shigoto.enqueue('other')", true, true, false],
        ["SELECT args FROM shigoto.jobs", true, false, true],
        ["SELECT id FROM shigoto.all_jobs", true, false, true],
        ["DELETE FROM shigoto.jobs WHERE false", true, false, false],
        ["UPDATE shigoto.queues SET paused_at = now() WHERE false", true, false, false],
        ["DELETE FROM shigoto.migrations WHERE false", false, false, false],
        ["CREATE TABLE shigoto.mine ()", false, false, false],
        ["ALTER TABLE shigoto.jobs ADD COLUMN mine text", false, false, false],
        ["DROP TABLE shigoto.jobs_archive", false, false, false],
        ["TRUNCATE shigoto.jobs", false, false, false]
      ]
      for (const [statement, ...expected] of table) {
        const found = yield* Effect.forEach([worker, producer, viewer], (client) => can(client, statement))
        assert.deepStrictEqual(found, expected, statement)
      }
    })
  )
})
