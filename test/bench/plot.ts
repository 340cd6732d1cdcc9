/** Plots as SVG that follow the reader's light or dark. */

/** A figure as tables and plots show it. */
export const shown = (value: number | undefined): string =>
  value === undefined || !Number.isFinite(value)
    ? "–"
    : Math.abs(value) >= 1000
      ? Math.round(value).toLocaleString("en")
      : Math.abs(value) >= 100
        ? value.toFixed(0)
        : value.toFixed(Math.abs(value) >= 10 ? 1 : 2)

/** Bars that are compared with each other. */
export interface Block {
  readonly title: string
  readonly bars: ReadonlyArray<{
    readonly title: string
    readonly value: number
    readonly kind: "ours" | "peer" | "limit"
  }>
}

const width = 720
const left = 210
const bar = 16
const gap = 5

/** One block of bars below the other, each scaled by its longest. */
export const bars = (label: string, blocks: ReadonlyArray<Block>): string => {
  const parts: Array<string> = []
  let y = 10
  const text = (x: number, content: string, more = "") =>
    parts.push(`<text x="${x}" y="${y + 12}"${more}>${escape(content)}</text>`)
  for (const block of blocks) {
    const most = Math.max(...block.bars.map(({ value }) => value))
    text(10, block.title, ` class="title"`)
    y += bar + gap
    for (const { kind, title, value } of block.bars) {
      const length = Math.max(((width - left - 110) * value) / most, 1)
      text(left - 8, title, ` text-anchor="end"`)
      parts.push(`<rect class="${kind}" x="${left}" y="${y}" width="${length.toFixed(1)}" height="${bar}" rx="2"/>`)
      text(left + length + 6, shown(value))
      y += bar + gap
    }
    y += 14
  }
  return framed(label, y, parts)
}

/** A line over points whose distance on the x-axis is that of their order, since they go up by factors. */
export interface Line {
  readonly title: string
  readonly points: ReadonlyArray<number | undefined>
}

const high = 180
const colours = ["#2da44e", "#0969da", "#bf3989", "#9a6700"]

/** Lines over the same x, each scaled by its own highest point, which its legend tells. */
export const lines = (label: string, xs: ReadonlyArray<number>, lines: ReadonlyArray<Line>): string => {
  const right = width - 30
  const x = (i: number) => 40 + ((right - 40) * i) / Math.max(xs.length - 1, 1)
  const parts = [
    `<text x="10" y="20" class="title">${escape(label)}</text>`,
    ...[0, 0.5, 1].map((share) => `<path class="grid" d="M40 ${40 + high * share}H${right}"/>`),
    ...xs.map(
      (value, i) => `<text x="${x(i)}" y="${high + 58}" text-anchor="middle">${value.toLocaleString("en")}</text>`
    )
  ]
  for (const [at, { points, title }] of lines.entries()) {
    const colour = colours[at % colours.length]
    const most = Math.max(...points.map((value) => value ?? 0))
    const places = points.flatMap((value, i) =>
      value === undefined ? [] : [`${x(i).toFixed(1)},${(40 + high * (1 - value / most)).toFixed(1)}`]
    )
    parts.push(`<polyline fill="none" stroke="${colour}" stroke-width="2" points="${places.join(" ")}"/>`)
    for (const place of places) {
      const [cx, cy] = place.split(",")
      parts.push(`<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`)
    }
    parts.push(
      `<text x="40" y="${high + 82 + at * 18}" style="fill:${colour}">${escape(`${title}; top: ${shown(most)}`)}</text>`
    )
  }
  return framed(label, high + 92 + lines.length * 18, parts)
}

// internal

const framed = (label: string, height: number, parts: ReadonlyArray<string>): string => {
  const style =
    "text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-weight:600}" +
    ".ours{fill:#2da44e}.peer{fill:#8c959f}.limit{fill:#d0d7de}.grid{stroke:#d0d7de;stroke-width:1}" +
    "@media(prefers-color-scheme:dark){text{fill:#adbac7}.limit{fill:#444c56}.grid{stroke:#444c56}}"
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}"><style>${style}</style>${parts.join("")}</svg>\n`
}

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")
