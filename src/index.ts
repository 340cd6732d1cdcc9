/**
 * Shigoto: background jobs for Effect, kept in your own PostgreSQL.
 *
 * The modules in the order in which a job meets them: defined, configured, enqueued, claimed and run, controlled.
 */

/** What users write: definitions, workers, what a handler may say. */
export * as Job from "./Job.ts"
/** Groups of jobs with callbacks. */
export * as Batch from "./Batch.ts"
/** Control over batches. */
export { Batches } from "./Batches.ts"
/** Graphs of jobs. */
export * as Flow from "./Flow.ts"
/** Control over flows. */
export { Flows } from "./Flows.ts"
/** Schedules. */
export * as CronJob from "./CronJob.ts"
/** Control over schedules. */
export { CronJobs } from "./CronJobs.ts"
/** Concurrencies that find themselves. */
export type * as AdaptiveConcurrency from "./AdaptiveConcurrency.ts"
/** Encryption at rest. */
export * as Cipher from "./Cipher.ts"
/** Keys in use, and re-encryption. */
export { Encryption } from "./Encryption.ts"
/** What stops workers whose attempts keep failing. */
export type * as CircuitBreaker from "./CircuitBreaker.ts"
/** The store behind Effect's circuit breakers. */
export * as CircuitBreakerStore from "./CircuitBreakerStore.ts"
/** What holds back work now, and what circuits are in. */
export { Resilience } from "./Resilience.ts"
/** What a node does without while it has too much to do. */
export type * as LoadShedding from "./LoadShedding.ts"
/** What wraps attempts. */
export * as Middleware from "./Middleware.ts"
/** What a handler knows of its job. */
export { CurrentJob } from "./CurrentJob.ts"
/** The layer with everything. */
export { ShigotoLive } from "./ShigotoLive.ts"
/** The same in parts, and the layer of a producer. */
export * as Shigoto from "./Shigoto.ts"
/** The settings. */
export * as ShigotoConfig from "./ShigotoConfig.ts"
/** The tables. */
export * as Migrations from "./Migrations.ts"
/** The jobs in the database. */
export { Jobs } from "./Jobs.ts"
/** Whether jobs flow, and why not. */
export * as Health from "./Health.ts"
/** The same over HTTP, for probes. */
export * as HealthHttp from "./HealthHttp.ts"
/** What is wrong with a database, and what to do. */
export * as Doctor from "./Doctor.ts"
/** Why a job is not running. */
export * as Explain from "./Explain.ts"
/** What happened when, for charts. */
export * as History from "./History.ts"
/** Who did what through the dashboard. */
export * as Audit from "./Audit.ts"
/** The processes that run jobs. */
export type { NodeRow } from "./Nodes.ts"
/** Which jobs: for lists, counts and bulk operations. */
export * as Filter from "./Filter.ts"
/** Control over queues. */
export { Queues } from "./Queues.ts"
/** How often jobs may start. */
export * as Limit from "./Limit.ts"
/** What handlers tell a limit. */
export { Limits } from "./Limits.ts"
/** The store behind Effect's rate limiters. */
export * as RateLimiterStore from "./RateLimiterStore.ts"
/** What makes two jobs the same. */
export * as Unique from "./Unique.ts"
/** A job as stored. */
export type { AttemptFailure, BatchId, JobId, JobRow, JobState } from "./JobRow.ts"
/** What happens to jobs. */
export type { JobEvent } from "./JobEvent.ts"
/** The default wait between attempts, and how schedules are replayed. */
export * as Backoff from "./Backoff.ts"
/** Every typed error. */
export * as ShigotoError from "./ShigotoError.ts"
