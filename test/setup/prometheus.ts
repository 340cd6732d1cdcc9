/** A strict reader of the Prometheus text format, version 0.0.4: whatever breaks the grammar throws. */

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Family {
  readonly type: string
  readonly help: string | undefined
  readonly samples: ReadonlyArray<Sample>
}

/** Reads a page of metrics. */
export const parse = (page: string): ReadonlyMap<string, Family> => {
  if (!page.endsWith("\n")) throw new Error("the page does not end with a line feed")
  const families = new Map<string, { type: string; help: string | undefined; samples: Array<Sample> }>()
  const helps = new Map<string, string>()
  const series = new Set<string>()
  for (const line of page.slice(0, -1).split("\n")) {
    if (line === "") continue
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/.exec(line)
    if (comment !== null) {
      const [, kind, name = "", rest = ""] = comment
      if (kind === "HELP") helps.set(name, rest)
      else if (families.has(name)) throw new Error(`a second TYPE of ${name}`)
      else if (!/^(counter|gauge|histogram|summary|untyped)$/.test(rest)) throw new Error(`no type: ${line}`)
      else families.set(name, { type: rest, help: helps.get(name), samples: [] })
      continue
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (sample === null) throw new Error(`no sample: ${line}`)
    const [, name = "", text = "", number = ""] = sample
    const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ""))
    if (family === undefined) throw new Error(`a sample before its TYPE: ${line}`)
    const value = number === "+Inf" ? Infinity : number === "-Inf" ? -Infinity : Number(number)
    if (Number.isNaN(value)) throw new Error(`no number: ${line}`)
    if (family.type === "counter" && value < 0) throw new Error(`a counter below zero: ${line}`)
    const labels = readLabels(text)
    const key = `${name} ${keyOf(labels)}`
    if (series.has(key)) throw new Error(`twice: ${line}`)
    series.add(key)
    family.samples.push({ name, labels, value })
  }
  for (const [name, family] of families) if (family.type === "histogram") checkHistogram(name, family.samples)
  return families
}

/** The value of the one sample with these labels. */
export const valueOf = (
  families: ReadonlyMap<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>> = {}
): number | undefined => {
  const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ""))
  const found = family?.samples.filter(
    (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value)
  )
  if (found !== undefined && found.length > 1) throw new Error(`${found.length} samples of ${name}`)
  return found?.[0]?.value
}

const readLabels = (text: string): Record<string, string> => {
  const labels: Record<string, string> = {}
  const label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y
  while (label.lastIndex < text.length) {
    const [, name = "", value = ""] = label.exec(text) ?? []
    if (name === "") throw new Error(`no labels: ${text}`)
    if (Object.hasOwn(labels, name)) throw new Error(`the label ${name} twice: ${text}`)
    labels[name] = value.replace(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char))
  }
  return labels
}

const keyOf = (labels: Readonly<Record<string, string>>): string =>
  JSON.stringify(
    Object.keys(labels)
      .toSorted()
      .map((name) => [name, labels[name]])
  )

const checkHistogram = (name: string, samples: ReadonlyArray<Sample>): void => {
  const groups = new Map<string, Array<Sample>>()
  for (const sample of samples) {
    const { le: _, ...labels } = sample.labels
    const key = keyOf(labels)
    groups.set(key, [...(groups.get(key) ?? []), sample])
  }
  for (const [key, group] of groups) {
    const buckets = group
      .filter((sample) => sample.name === `${name}_bucket`)
      .map(({ labels, value }) => ({ le: labels["le"] === "+Inf" ? Infinity : Number(labels["le"]), value }))
    const count = group.find((sample) => sample.name === `${name}_count`)?.value
    const sum = group.find((sample) => sample.name === `${name}_sum`)?.value
    if (sum === undefined || buckets.at(-1)?.le !== Infinity || buckets.at(-1)?.value !== count) {
      throw new Error(`${name}${key} has no sum, or its last bucket is not its count`)
    }
    for (const [i, bucket] of buckets.entries()) {
      const before = buckets[i - 1]
      if (before !== undefined && !(bucket.le > before.le && bucket.value >= before.value)) {
        throw new Error(`${name}${key} has buckets that fall`)
      }
    }
  }
}
