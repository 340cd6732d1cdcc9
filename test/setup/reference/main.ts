/** `npm run reference`: writes docs/reference, and the tables of options in the guides, anew. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { root } from "./declarations.ts"
import { makeReference } from "./pages.ts"
import { makeGuides } from "./tables.ts"

Fs.rmSync(Path.join(root, "docs/reference"), { recursive: true, force: true })
Fs.mkdirSync(Path.join(root, "docs/reference"), { recursive: true })
for (const { missing, pages } of [makeReference(), makeGuides()]) {
  for (const [path, text] of pages) Fs.writeFileSync(Path.join(root, path), text)
  for (const what of missing) console.error(what)
}
