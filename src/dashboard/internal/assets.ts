/** The files of the page, built beforehand and read once. */
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { extname } from "node:path"

/** One file. */
export interface Asset {
  readonly body: Uint8Array
  readonly type: string
  /** Its name tells its content. */
  readonly immutable: boolean
}

/** Reads the page, and all files by the path under which they are served; none where they have not been built. */
export const readAssets = (): { readonly page: string | undefined; readonly assets: ReadonlyMap<string, Asset> } => {
  // Beside the compiled code, or where the source's own build puts them.
  const folder = ["../../../ui/", "../../../dist/ui/"]
    .map((path) => new URL(path, import.meta.url))
    .find((url) => existsSync(new URL("index.html", url)))
  const assets = new Map<string, Asset>()
  if (folder === undefined) return { page: undefined, assets }
  for (const file of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const path = `${file.parentPath}/${file.name}`
    const name = `/${path.slice(folder.pathname.length).replace(/^\/+/, "")}`
    // The page is another one for each viewer.
    if (name === "/index.html") continue
    assets.set(name, {
      body: readFileSync(path),
      type: types[extname(name)] ?? "application/octet-stream",
      immutable: name.startsWith("/assets/")
    })
  }
  return { page: readFileSync(new URL("index.html", folder), "utf8"), assets }
}

/** Whether a browser asks for a view of the page, which has an address of its own and no file. */
export const isView = ({ headers, method }: Pick<HttpServerRequest, "method" | "headers">, inside: string): boolean =>
  method === "GET" && headers["accept"]?.includes("text/html") === true && !/\.[^/]*$/.test(inside)

/** Tells the page where it lives: relative to the view, so that it holds behind a proxy that strips the path. */
export const withBase = (html: string, inside: string): string =>
  html.replace(/<head>/i, (start) => `${start}<base href="${"../".repeat(inside.split("/").length - 2) || "./"}">`)

// internal

const types: Readonly<Record<string, string>> = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml"
}
