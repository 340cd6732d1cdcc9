/**
 * Encryption at rest: what may quote a user's data is encrypted on this side of the database.
 *
 * AES-256-GCM with a random nonce for each value. A value is bound to its place, which is its field, its job's id and
 * name; moved anywhere else, or changed by a bit, it cannot be read, and the attempt that needs it fails with a
 * `DecryptionError` instead of calling the handler.
 */
import * as Context from "effect/Context"
import * as Aead from "effect/crypto/Aead"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { DecryptionError, envelope, keyIdOf, type Place, type Sealer } from "./internal/envelope.ts"
import { shown } from "./internal/names.ts"
import { InvalidConfig } from "./ShigotoError.ts"

export { Encrypted } from "./internal/envelope.ts"

/**
 * What the store encrypts with; where none is provided, it does not.
 *
 * @category services
 */
export class Cipher extends Context.Service<Cipher, Sealer>()("effect-shigoto/Cipher") {}

/**
 * A key and the name under which encrypted values ask for it.
 *
 * @category models
 */
export interface Key {
  /** 1 to 64 letters, digits, `-` and `_`; it stands in the clear in every value. */
  readonly id: string
  /** 32 bytes, or their Base64. */
  readonly key: Redacted.Redacted<Uint8Array> | Redacted.Redacted<string>
}

/**
 * How to encrypt.
 *
 * @category models
 */
export interface Options {
  /** The newest first: it encrypts, and all of them decrypt, each what names it. */
  readonly keys: ReadonlyArray<Key>
  /**
   * Hides what keys of unique jobs are made of; 32 bytes, or their Base64. While it stays the same, so do they. Defaults
   * to the last of `keys`: give it here before that one is dropped.
   */
  readonly uniqueKey?: Key["key"] | undefined
  /** Whether jobs are encrypted whose definition does not say `encrypted`. Defaults to true. */
  readonly encryptByDefault?: boolean | undefined
  /** Runs jobs whose args are not encrypted, such as those from before and those enqueued in SQL. Defaults to false. */
  readonly allowPlaintext?: boolean | undefined
}

/**
 * Encrypts with AES-256-GCM; fails as it is built where a key cannot be used.
 *
 * **Gotchas**
 *
 * Goes under `ShigotoLive` or `Shigoto.layerProducer` with `Layer.provide`, on every node and producer of a database.
 *
 * @category layers
 */
export const layerAesGcm = (options: Options): Layer.Layer<Cipher, InvalidConfig> =>
  Layer.effect(Cipher, make(options)).pipe(
    Layer.provide([Aead.layerWebCrypto, Mac.layerWebCrypto]),
    Layer.provide(SecureRandom.layerWebCrypto)
  )

// internal

const version = "1"

const nonceLength = 12

const make = Effect.fnUntraced(function* ({
  allowPlaintext = false,
  encryptByDefault = true,
  keys,
  uniqueKey
}: Options) {
  const aead = yield* Aead.Aead
  const mac = yield* Mac.Mac
  const random = yield* SecureRandom.SecureRandom
  const primary = keys[0]
  const oldest = keys.at(-1)
  if (primary === undefined || oldest === undefined) return yield* refused("keys", "[]", "there must be at least one")
  const known = new Map<string, Aead.Key<Aead.AesGcm>>()
  for (const { id, key } of keys) {
    if (!/^[\w-]{1,64}$/.test(id)) {
      return yield* refused("keys", shown(id), "an id has 1 to 64 letters, digits, - and _")
    }
    if (known.has(id)) return yield* refused("keys", shown(id), "each id may be there once")
    known.set(id, yield* Effect.orDie(Aead.key(Aead.aes256Gcm, yield* bytesOf(`keys (${id})`, key))))
  }
  const root = yield* Effect.orDie(Mac.key(Mac.hmacSha256, yield* bytesOf("uniqueKey", uniqueKey ?? oldest.key)))
  // One key for two purposes is none: what signs is derived from what may also encrypt.
  const signer = yield* Effect.orDie(
    Effect.flatMap(mac.sign(root, encode("effect-shigoto unique keys")), (bytes) => Mac.key(Mac.hmacSha256, bytes))
  )
  return Cipher.of({
    keyId: primary.id,
    byDefault: encryptByDefault,
    allowPlaintext,
    // A failure of these is one of the runtime's crypto, about which nobody can do anything.
    seal: (text, place) =>
      Effect.gen(function* () {
        const key = known.get(primary.id) as Aead.Key // put there above
        const nonce = yield* random.randomBytes(nonceLength)
        const sealed = yield* aead.encrypt(key, encode(text), { nonce, aad: boundTo(primary.id, place) })
        const content = new Uint8Array(nonceLength + sealed.length)
        content.set(nonce)
        content.set(sealed, nonceLength)
        return envelope(`${version}.${primary.id}.${Base64.encode(content)}`)
      }).pipe(Effect.orDie),
    open: (content, place) => {
      const keyId = keyIdOf(content)
      const key = known.get(keyId)
      const [given, , text, ...rest] = content.split(".")
      if (key === undefined) return Effect.fail(unknownKey(keyId, place))
      const bytes = Base64.decode(text ?? "")
      if (given !== version || rest.length > 0 || Result.isFailure(bytes)) return Effect.fail(tampered(keyId, place))
      // Base64 has several texts for the same bytes: only what was written is taken.
      if (Base64.encode(bytes.success) !== text) return Effect.fail(tampered(keyId, place))
      return aead
        .decrypt(key, bytes.success.subarray(nonceLength), {
          nonce: bytes.success.slice(0, nonceLength),
          aad: boundTo(keyId, place)
        })
        .pipe(
          Effect.map((plain) => new TextDecoder().decode(plain)),
          Effect.mapError(() => tampered(keyId, place))
        )
    },
    blind: (text) => Effect.orDie(Effect.map(mac.sign(signer, encode(text)), Base64.encode))
  })
})

const encode = (text: string): Uint8Array => new TextEncoder().encode(text)

const boundTo = (keyId: string, { field, of, worker }: Place): Uint8Array =>
  encode(JSON.stringify(["effect-shigoto", version, keyId, field, of, worker ?? null]))

const bytesOf = (field: string, key: Key["key"]): Effect.Effect<Uint8Array, InvalidConfig> => {
  const value: Uint8Array | string = Redacted.value<Uint8Array | string>(key)
  const bytes = typeof value === "string" ? Result.getOrElse(Base64.decode(value), () => new Uint8Array()) : value
  return bytes.length === 32
    ? Effect.succeed(bytes)
    : refused(field, "<redacted>", "a key has 32 bytes, or is the Base64 of so many")
}

const refused = (field: string, value: string, why: string): Effect.Effect<never, InvalidConfig> =>
  Effect.fail(new InvalidConfig({ field, value, message: `The cipher's ${field} cannot be ${value}: ${why}.` }))

const unknownKey = (keyId: string, place: Place): DecryptionError =>
  new DecryptionError({
    reason: "UnknownKey",
    keyId,
    message: `The ${place.field} of ${place.of} are encrypted with the key ${shown(keyId)}, which is not among the cipher's keys.`
  })

const tampered = (keyId: string, place: Place): DecryptionError =>
  new DecryptionError({
    reason: "Tampered",
    keyId,
    message: `The ${place.field} of ${place.of} cannot be decrypted with the key ${shown(keyId)}: it is another key of that name, or the value was changed or belongs elsewhere.`
  })
