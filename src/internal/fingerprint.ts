/** What failures have in common: one short hash for all that differ in numbers, ids and quoted text alone. */

/**
 * The fingerprint of a failure: 14 hexadecimal digits.
 *
 * Stays the same from version to version: stored failures are found by it.
 */
export const fingerprintOf = (worker: string, tag: string, message: string): string =>
  hash(`${worker}\n${tag}\n${normalised(message)}`)

// internal

/** The first line, without what differs from one failure to the next; at most 500 units are read. */
const normalised = (message: string): string =>
  message
    .trim()
    .slice(0, 500)
    .replace(/[\n\r].*$/s, "")
    .replace(/"[^"]*"|'[^']*'|`[^`]*`/g, "?")
    .replace(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, "?")
    // Words of eight and more with digits in them: ids, hashes, keys.
    .replace(/\b(?=[a-z_-]*\d)[\w-]{8,}\b/gi, "?")
    .replace(/[+-]?\d+(?:[.,:]\d+)*/g, "?")
    .replace(/\s+/g, " ")

/** cyrb53: 53 bits, enough to tell some millions of groups apart. */
const hash = (text: string): string => {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, 2_654_435_761)
    b = Math.imul(b ^ unit, 1_597_334_677)
  }
  a = Math.imul(a ^ (a >>> 16), 2_246_822_507) ^ Math.imul(b ^ (b >>> 13), 3_266_489_909)
  b = Math.imul(b ^ (b >>> 16), 2_246_822_507) ^ Math.imul(a ^ (a >>> 13), 3_266_489_909)
  return (4_294_967_296 * (2_097_151 & b) + (a >>> 0)).toString(16).padStart(14, "0")
}
