/**
 * A bag of what comes and goes by the thousand; each member knows its place in it.
 *
 * In place of a `Set`: a table that a Set has outgrown points to the one after it, and once it is old it keeps alive, until
 * the next full collection of garbage, all that the later tables ever held. With jobs in it half of what a worker
 * allocated survived for that long.
 */

/** A bag. */
export interface Bag<A> {
  readonly add: (member: A) => void
  readonly delete: (member: A) => void
  readonly has: (member: A) => boolean
  readonly size: () => number
  /** Those that are in it now, in no order; what is added or deleted meanwhile does not change it. */
  readonly all: () => ReadonlyArray<A>
}

/** Where a member that is in no bag is. */
export const nowhere = -1

/** Makes an empty bag whose members keep their place under a key of their own. */
export const makeBag = <K extends PropertyKey, A extends Record<K, number>>(key: K): Bag<A> => {
  const members: Array<A> = []
  const put = (member: Record<K, number>, place: number): void => {
    member[key] = place
  }
  return {
    add: (member) => {
      if (member[key] !== nowhere) return
      put(member, members.length)
      members.push(member)
    },
    delete: (member) => {
      const place = member[key]
      const last = members.at(-1)
      if (place === nowhere || last === undefined) return
      members[place] = last
      put(last, place)
      members.pop()
      put(member, nowhere)
    },
    has: (member) => member[key] !== nowhere,
    size: () => members.length,
    all: () => members.slice()
  }
}
