/** What waits for what, in layers; the table beside it says the same to who cannot see it. */
import { type Edge, graphlib, layout } from "@dagrejs/dagre"
import { useMemo } from "react"
import type { BatchDetail } from "./api.ts"

interface Point {
  readonly x: number
  readonly y: number
}

const width = 168
const height = 46

const Graph = ({ nodes }: { readonly nodes: BatchDetail["nodes"] }) => {
  const shape = nodes.map((node) => `${node.id}:${node.after.join("+")}`).join(" ")
  const drawn = useMemo(() => {
    const graph = new graphlib.Graph()
    graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 46, marginx: 8, marginy: 8 })
    graph.setDefaultEdgeLabel(() => ({}))
    const known = new Set(nodes.map(({ id }) => id))
    for (const { id } of nodes) graph.setNode(String(id), { width, height })
    for (const { after, id } of nodes) {
      for (const parent of after) if (known.has(parent)) graph.setEdge(String(parent), String(id))
    }
    layout(graph)
    return {
      size: graph.graph(),
      places: new Map(nodes.map(({ id }) => [id, graph.node(String(id))])),
      lines: graph.edges().map((edge: Edge) => {
        const points: ReadonlyArray<Point> = graph.edge(edge).points ?? []
        return points.map(({ x, y }) => `${x},${y}`).join(" ")
      })
    }
    // Only what is connected to what moves the picture.
  }, [shape])
  const { lines, places, size } = drawn
  return (
    <div className="scroll graph" role="region" aria-label="Graph of the steps" tabIndex={0}>
      <svg width={size.width} height={size.height} role="group" aria-label={`${nodes.length} steps`}>
        {lines.map((points: string, i: number) => (
          <polyline key={i} className="edge" points={points} />
        ))}
        {nodes.map((node) => {
          const place = places.get(node.id)
          if (place === undefined) return null
          return (
            <a key={node.id} href={`#/jobs/${node.id}`}>
              <rect
                className={`node ${node.state}`}
                x={place.x - width / 2}
                y={place.y - height / 2}
                width={width}
                height={height}
                rx={6}
              />
              <text x={place.x - width / 2 + 10} y={place.y - 4}>
                {node.step.length > 20 ? `${node.step.slice(0, 19)}…` : node.step}
              </text>
              <text className="small" x={place.x - width / 2 + 10} y={place.y + 14}>
                {node.state}
                {node.children > 0 ? ` · ${node.children} parts` : ""}
              </text>
            </a>
          )
        })}
      </svg>
    </div>
  )
}

export default Graph
