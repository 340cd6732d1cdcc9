import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { defineConfig, type Plugin } from "vite"

/** Puts the licences of what is bundled beside it. */
const notices: Plugin = {
  name: "third-party-notices",
  generateBundle(_, bundle) {
    const roots = new Set(
      Object.values(bundle)
        .flatMap((chunk) => (chunk.type === "chunk" ? chunk.moduleIds : []))
        .flatMap((id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id.replaceAll("\\", "/"))?.[0] ?? [])
    )
    const texts = [...roots].toSorted().map((root) => {
      const { license, name, version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
        // as npm writes it
        readonly name: string
        readonly version: string
        readonly license: string
      } // of every published package
      // Packages of one repository may leave it to its root.
      const file = [root, dirname(root)]
        .filter((folder) => existsSync(folder))
        .flatMap((folder) => readdirSync(folder).map((one) => join(folder, one)))
        .find((path) => /\/licen[cs]e[^/]*$/i.test(path))
      return `${name} ${version} (${license})\n\n${file === undefined ? "" : readFileSync(file, "utf8").trim()}`
    })
    this.emitFile({
      type: "asset",
      fileName: "THIRD-PARTY-NOTICES.txt",
      source: `The page holds code of these packages.\n\n${texts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`
    })
  }
}

export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  plugins: [notices],
  build: { outDir: "../../../dist/ui", emptyOutDir: true, modulePreload: false }
})
