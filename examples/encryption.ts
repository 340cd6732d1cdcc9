/**
 * Encryption at rest: what the handler gets, what the database holds, and what a reader without the key sees.
 *
 *     node --conditions=source examples/encryption.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Layer, Redacted, Schema } from "effect"
import { Cipher, Job, Jobs, Shigoto, ShigotoConfig, ShigotoLive } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

const Charge = Job.make("charge", { args: { card: Schema.String }, success: Schema.String })

const ChargeLive = Charge.toLayer(({ card }) =>
  Effect.as(Console.log(`the handler gets ${card}`), `charged ${card.slice(-4)}`)
)

// In earnest from a secret store; here one for each run.
const CipherLive = Cipher.layerAesGcm({ keys: [{ id: "2026", key: Redacted.make(new Uint8Array(randomBytes(32))) }] })

const url = process.env["DATABASE_URL"]
const DatabaseLive = url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) })

const main = Effect.gen(function* () {
  const jobs = yield* Jobs
  const sql = yield* SqlClient.SqlClient
  const { id } = yield* Charge.enqueue({ card: "4242 4242 4242 4242" })
  const job = yield* jobs
    .get(id)
    .pipe(Effect.delay("50 millis"), Effect.repeat({ until: (row) => row.finishedAt !== undefined }))
  yield* Console.log(`the result is ${JSON.stringify(job.result)}`)
  const [row] = yield* sql<{ readonly args: string }>`SELECT args::text FROM shigoto.all_jobs WHERE id = ${id}::bigint`
  yield* Console.log(`the database holds ${row?.args.slice(0, 24)}…`)
  // A process without the cipher: the same tables, and no more of the args than which key they need.
  const blind = yield* Effect.provide(
    Effect.flatMap(Jobs, (others) => others.get(id)),
    Layer.fresh(Shigoto.layerProducer)
  )
  if (blind.args instanceof Cipher.Encrypted)
    yield* Console.log(`without the cipher it needs the key ${blind.args.keyId}`)
})

const AppLive = ChargeLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(CipherLive),
  Layer.provideMerge(ShigotoConfig.layer()),
  Layer.provideMerge(DatabaseLive)
)

NodeRuntime.runMain(Effect.provide(main, AppLive))
