import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Health from "../src/Health.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import { type Declaration, type Module, readFields, readOwnFields, root } from "./setup/reference/declarations.ts"
import { makeReference, missingIn } from "./setup/reference/pages.ts"
import * as Tables from "./setup/reference/tables.ts"

const { missing, pages } = makeReference()
const guides = Tables.makeGuides()

describe("docs/reference", () => {
  it("documents every public export with a sentence and a category", () => {
    assert.deepStrictEqual(missing, [])
  })

  it("documents every verb of what is exported: methods of services and of definitions", () => {
    const modules = [...pages.values()].flatMap((page) => /^<!-- Made from (src\S+\.ts) /.exec(page)?.[1] ?? [])
    assert.isAtLeast(modules.length, 40)
    const verbs = modules.flatMap((path) =>
      [...Fs.readFileSync(Path.join(root, path), "utf8").matchAll(/^export (?:interface|class) (\w+)/gm)].flatMap(
        ([, name = ""]) =>
          readFields(path, name)
            .filter(({ type }) => /=>|^(?:Effect|Stream)\./.test(type))
            .map((field) => ({ path: `${path}: ${name}.${field.name}`, doc: field.doc }))
      )
    )
    assert.isAtLeast(verbs.length, 150)
    assert.deepStrictEqual(
      verbs.filter(({ doc }) => doc === undefined).map(({ path }) => path),
      []
    )
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

describe("the tables of options", () => {
  it("say of every option what it is and what it defaults to", () => {
    assert.deepStrictEqual(guides.missing, [])
  })

  it("are what the sources say now: `npm run reference` writes them", () => {
    const stale = [...guides.pages].filter(([page, text]) => Fs.readFileSync(Path.join(root, page), "utf8") !== text)
    assert.deepStrictEqual(
      stale.map(([page]) => page),
      []
    )
    // A marker that is misspelt would leave its table as it is.
    const all = [...guides.pages.values()].join("\n")
    assert.lengthOf(
      all.match(/<!-- end -->/g) ?? [],
      (all.match(/<!-- (?:(?:own )?options \S+ \w+|environment) -->/g) ?? []).length
    )
  })

  it("are there for all that users may pass", () => {
    assert.deepStrictEqual(Tables.untold(guides.pages.values()), [])
    assert.deepStrictEqual(
      Tables.untold([[...guides.pages.values()].join("\n").replaceAll("options src/Batch.ts BatchOptions -->", "")]),
      ["src/Batch.ts BatchOptions"]
    )
  })

  it("are nowhere written by hand", () => {
    const pages = ["README.md", ...Fs.readdirSync(Path.join(root, "docs")).map((name) => `docs/${name}`)]
    const byHand = pages
      .filter((page) => page.endsWith(".md"))
      .flatMap((page) =>
        Tables.writtenByHand(Fs.readFileSync(Path.join(root, page), "utf8")).map((head) => `${page}: ${head}`)
      )
    assert.deepStrictEqual(byHand, [])
  })

  it("are found where they are written by hand", () => {
    const table = "| callback | inserted |\n|---|---|\n| `onFinished` | then |\n| `onSucceeded: job` | then |\n"
    assert.deepStrictEqual(Tables.writtenByHand(table), ["| callback | inserted |"])
    assert.deepStrictEqual(Tables.writtenByHand("| option | |\n|---|---|\n| `x` | y |\n"), ["| option | |"])
    assert.deepStrictEqual(
      Tables.writtenByHand(`<!-- options src/Batch.ts BatchOptions -->\n\n${table}\n<!-- end -->`),
      []
    )
    assert.deepStrictEqual(
      Tables.writtenByHand("| verb | |\n|---|---|\n| `onFinished` | a |\n| `get` | b |\n| `c` | d |\n"),
      []
    )
  })

  it("leave out what an interface extends where they are its own", () => {
    const names = (fields: ReadonlyArray<{ readonly name: string }>) => fields.map(({ name }) => name)
    assert.includeMembers(names(readFields("src/internal/searching.ts", "ListOptions")), ["worker", "order"])
    assert.notInclude(names(readOwnFields("src/internal/searching.ts", "ListOptions")), "worker")
  })

  it("name every field of the filter, and no other", () => {
    const page = Fs.readFileSync(Path.join(root, "docs/bulk.md"), "utf8")
    const [, table = ""] = /^\| field .+\n((?:\|.*\n)+)/m.exec(page) ?? []
    const told = [...table.matchAll(/^\| (`.+?`) \|/gm)].flatMap(([, cell = ""]) =>
      [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name)
    )
    assert.sameMembers(
      told,
      readFields("src/Filter.ts", "Filter").map(({ name }) => name)
    )
  })

  it("tell the defaults that the code has", () => {
    const { queues, retention, ...plain } = ShigotoConfig.defaults
    const values = [
      ...Object.entries(plain).map(([name, value]) => [name, value === 1024 * 1024 ? "1 MiB" : String(value)] as const),
      ["queues", `{ default: ${queues.default} }`] as const,
      ...Object.values(retention).map((value) => ["retention", value] as const)
    ]
    const fields = readFields("src/ShigotoConfig.ts", "Options")
    const wrong = values.filter(([name, value]) => {
      const { doc = "" } = fields.find((field) => field.name === name) ?? {}
      return !doc.slice(doc.indexOf("Defaults to")).includes(value)
    })
    assert.deepStrictEqual(wrong, [])
    const thresholds = Object.entries(Health.Thresholds.defaultValue())
    assert.deepStrictEqual(
      readFields("src/Health.ts", "HealthThresholds").map(({ doc, name }) => [
        name,
        /Defaults to (.+)\.$/.exec(doc ?? "")?.[1]
      ]),
      thresholds.map(([name, value]) => [name, value.toLocaleString("en")])
    )
  })

  it("ask for what an option is, and for its default", () => {
    const field = (doc: string | undefined, optional = true) => ({ name: "a", type: "number | string", optional, doc })
    assert.deepStrictEqual(Tables.missingIn("O", [field("How many. Defaults to 0.5; more is slower. Not with b.")]), [])
    assert.deepStrictEqual(Tables.missingIn("O", [field("How many.", false)]), [])
    assert.deepStrictEqual(Tables.missingIn("O", [field("Defaults to 1.")]), ["O.a does not say what it is"])
    assert.deepStrictEqual(Tables.missingIn("O", [field("How many.")]), ["O.a does not say what it defaults to"])
    assert.include(
      Tables.tableOf([field("How many | what. Defaults to 0.5; more is slower. Not with b.")]),
      "| `a` | `number \\| string` | 0.5; more is slower | How many \\| what. Not with b. |"
    )
  })
})
