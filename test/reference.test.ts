import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Declaration, type Module, root } from "./setup/reference/declarations.ts"
import { makeReference, missingIn } from "./setup/reference/pages.ts"

const { missing, pages } = makeReference()

describe("docs/reference", () => {
  it("documents every public export with a sentence and a category", () => {
    assert.deepStrictEqual(missing, [])
  })

  it("is what the sources say now: `npm run reference` writes it", () => {
    const committed = Fs.readdirSync(Path.join(root, "docs/reference")).map((name) => `docs/reference/${name}`)
    assert.sameMembers(committed, [...pages.keys()])
    const stale = [...pages].filter(([page, text]) => Fs.readFileSync(Path.join(root, page), "utf8") !== text)
    assert.deepStrictEqual(
      stale.map(([page]) => page),
      []
    )
  })

  it("links to headings that are there", () => {
    const dead = [...pages].flatMap(([page, text]) =>
      [...text.matchAll(/\]\(([\w-]+\.md)?#([\w-]+)\)/g)].flatMap(([, target, anchor]) => {
        const at = target === undefined ? text : pages.get(`docs/reference/${target}`)
        const headings = [...(at ?? "").matchAll(/^## (.+)$/gm)].map(([, heading = ""]) => heading.toLowerCase())
        return headings.includes(anchor ?? "") ? [] : [`${page} links to ${target ?? ""}#${anchor}`]
      })
    )
    assert.deepStrictEqual(dead, [])
  })

  it("asks for a docstring, a sentence and a category", () => {
    const module = (declarations: ReadonlyArray<Declaration>, doc = "A module."): Module => ({
      path: "src/A.ts",
      doc,
      declarations,
      passedOn: []
    })
    const declaration = (name: string, text?: string, category?: string): Declaration => ({
      name,
      signature: "",
      doc: text === undefined ? undefined : { text, category }
    })
    assert.deepStrictEqual(missingIn(module([declaration("a", "Says it.", "models"), declaration("a")])), [])
    assert.deepStrictEqual(missingIn(module([], "")), ["src/A.ts has no file doc"])
    assert.deepStrictEqual(missingIn(module([declaration("a")])), ["src/A.ts: a has no docstring"])
    assert.deepStrictEqual(missingIn(module([declaration("a", "Says it.")])), ["src/A.ts: a has no @category"])
    assert.deepStrictEqual(missingIn(module([declaration("a", "says it", "models")])), [
      "src/A.ts: the docstring of a is no sentence"
    ])
  })
})
