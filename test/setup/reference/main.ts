/** `npm run reference`: writes docs/reference anew. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { root } from "./declarations.ts"
import { makeReference } from "./pages.ts"

Fs.rmSync(Path.join(root, "docs/reference"), { recursive: true, force: true })
Fs.mkdirSync(Path.join(root, "docs/reference"), { recursive: true })
const { missing, pages } = makeReference()
for (const [path, text] of pages) Fs.writeFileSync(Path.join(root, path), text)
for (const what of missing) console.error(what)
