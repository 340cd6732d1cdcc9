/**
 * What Effect's rate limiters keep for a key, as arithmetic: what is stored, what is asked and an instant in; an answer
 * and what is to be stored out.
 *
 * The rules are those of Effect's own stores, so that a limiter does the same on any of them.
 */
import type {
  AdaptiveConsumeOptions,
  AdaptiveConsumeResult,
  AdaptiveFeedbackOptions
} from "effect/persistence/RateLimiter"
import * as Duration from "effect/Duration"

/** An answer, and what is to be stored where that is something else; it says nothing any more from `idleAt` on. */
export interface Step<A, Value> {
  readonly answer: A
  readonly next?: { readonly value: Value; readonly idleAt: number } | undefined
}

/** What a window has counted. */
export interface Window {
  readonly count: number
  readonly expiresAt: number
}

/** Counts tokens in a window that grows with them, unless that exceeds the limit. */
export const countTokens = (
  stored: Window | undefined,
  asked: { readonly tokens: number; readonly refillMillis: number; readonly limit: number | undefined },
  now: number
): Step<readonly [count: number, ttl: number], Window> => {
  const { limit, refillMillis, tokens } = asked
  const window = stored === undefined || stored.expiresAt <= now ? { count: 0, expiresAt: now } : stored
  const count = window.count + tokens
  if (limit !== undefined && limit > 0 && count > limit) return { answer: [count, window.expiresAt - now] }
  const expiresAt = window.expiresAt + refillMillis * tokens
  return { answer: [count, expiresAt - now], next: { value: { count, expiresAt }, idleAt: expiresAt } }
}

/** What is in a bucket, as of the last whole token that was put in. */
export interface Bucket {
  readonly tokens: number
  readonly lastRefill: number
}

/** Takes tokens from a bucket; more than there are only where it may overflow. */
export const takeTokens = (
  stored: Bucket | undefined,
  asked: {
    readonly tokens: number
    readonly refillMillis: number
    readonly limit: number
    readonly allowOverflow: boolean
  },
  now: number
): Step<readonly [remaining: number, elapsedMillis: number], Bucket> => {
  const { allowOverflow, limit, tokens } = asked
  // What refills at once does so in the next instant.
  const refillMillis = Math.max(asked.refillMillis, Number.MIN_VALUE)
  const before = stored ?? { tokens: limit, lastRefill: now }
  const refills = Math.max(0, Math.floor((now - before.lastRefill) / refillMillis))
  const filled = refills > 0 ? Math.min(limit, before.tokens + refills) : before.tokens
  const lastRefill = filled >= limit ? now : before.lastRefill + refills * refillMillis
  const remaining = filled - tokens
  const kept = allowOverflow || remaining >= 0 ? remaining : filled
  const elapsed = Math.max(0, now - lastRefill)
  return {
    answer: [remaining, elapsed],
    // In the millisecond after the last token, whichever way its fraction is rounded.
    next: {
      value: { tokens: kept, lastRefill },
      idleAt: Math.floor(lastRefill + Math.ceil(limit - kept) * refillMillis) + 1
    }
  }
}

/** What was learned of a limit from the answers of the service behind it. */
export interface Learned {
  readonly phase: "cooldown" | "learning" | "learned"
  readonly epoch: number
  readonly cooldownUntil: number
  readonly learningStartedAt: number
  readonly observedTokens: number
  readonly learnedLimit: number
  readonly learnedWindowMillis: number
  readonly expiresAt: number
}

/** Says how long to wait by what was learned, and learns from the request. */
export const consumeLearned = (
  stored: Learned | undefined,
  { fallbackWindow, tokens }: AdaptiveConsumeOptions,
  now: number
): Step<AdaptiveConsumeResult, Learned> => {
  const state = living(stored, now)
  if (state === undefined) return { answer: { delay: Duration.zero, epoch: 0, phase: "inactive" } }
  const answer = (of: Learned, millis = 0): AdaptiveConsumeResult => ({
    delay: Duration.millis(Math.max(millis, 0)),
    epoch: of.epoch,
    phase: of.phase
  })
  switch (state.phase) {
    case "cooldown": {
      if (state.cooldownUntil > now) return { answer: answer(state, state.cooldownUntil - now) }
      const next: Learned = {
        ...state,
        phase: "learning",
        epoch: state.epoch + 1,
        learningStartedAt: now,
        observedTokens: tokens,
        expiresAt: now + Duration.toMillis(fallbackWindow) + graceMillis
      }
      return { answer: answer(next), next: keep(next) }
    }
    case "learning": {
      const next = { ...state, observedTokens: state.observedTokens + tokens }
      return { answer: answer(next), next: keep(next) }
    }
    case "learned": {
      const refillMillis = state.learnedWindowMillis / state.learnedLimit
      const isOver = state.cooldownUntil <= now
      const next = {
        ...state,
        observedTokens: (isOver ? 0 : state.observedTokens) + tokens,
        cooldownUntil: (isOver ? now : state.cooldownUntil) + refillMillis * tokens
      }
      const elapsed = next.observedTokens * refillMillis - (next.cooldownUntil - now)
      const windows = Math.floor((next.observedTokens - 1) / state.learnedLimit)
      return { answer: answer(next, windows * state.learnedWindowMillis - elapsed), next: keep(next) }
    }
  }
}

/** Learns from an answer; only one that asks for a pause says anything. */
export const hearFeedback = (
  stored: Learned | undefined,
  { epoch, retryAfter, status, tokens }: AdaptiveFeedbackOptions,
  now: number
): Step<void, Learned> => {
  if (status !== 429 || retryAfter === undefined) return { answer: undefined }
  const retryMillis = within(Duration.toMillis(retryAfter))
  const cooldownUntil = now + retryMillis
  const state = living(stored, now)
  if (epoch !== (state?.epoch ?? 0)) return { answer: undefined }
  const cooling = (until: number): Step<void, Learned> => ({
    answer: undefined,
    next: keep({
      phase: "cooldown",
      epoch,
      cooldownUntil: until,
      learningStartedAt: 0,
      observedTokens: 0,
      learnedLimit: 0,
      learnedWindowMillis: 0,
      expiresAt: until + graceMillis
    })
  })
  if (state === undefined || state.phase === "learned") return cooling(cooldownUntil)
  if (state.phase === "cooldown") return cooling(Math.max(state.cooldownUntil, cooldownUntil))
  const accepted = state.observedTokens - tokens
  if (accepted <= 0) return cooling(cooldownUntil)
  const learnedWindowMillis = within(now - state.learningStartedAt + retryMillis)
  return {
    answer: undefined,
    next: keep({
      phase: "learned",
      epoch: epoch + 1,
      cooldownUntil: state.learningStartedAt + learnedWindowMillis,
      learningStartedAt: state.learningStartedAt,
      observedTokens: accepted,
      learnedLimit: accepted,
      learnedWindowMillis,
      expiresAt: now + learnedWindowMillis + graceMillis
    })
  }
}

// internal

/** How much longer than it holds what was learned is kept. */
const graceMillis = 60_000

const longestMillis = 3_600_000

const within = (millis: number): number => (Number.isNaN(millis) || millis <= 0 ? 1 : Math.min(millis, longestMillis))

const living = (stored: Learned | undefined, now: number): Learned | undefined =>
  stored === undefined || stored.expiresAt <= now ? undefined : stored

const keep = (value: Learned): { readonly value: Learned; readonly idleAt: number } => ({
  value,
  idleAt: value.expiresAt
})
