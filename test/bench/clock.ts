/** The machine's monotonic clock in microseconds: the same in every process on it. */
export const now = (): number => Number(process.hrtime.bigint()) / 1000
