import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import type { Input } from "./setup/architecture.ts"
import { breaches, maxLines } from "./setup/architecture.ts"
import { doors, exceptions, levels, sqlHomes } from "./setup/levels.ts"

const root = Path.resolve(import.meta.dirname, "..")

describe("the layout", () => {
  it("is as the design says: levels, cycles, SQL, doors, packages, size, docs", () => {
    // The dashboard's page is a program of its own, bundled with what it imports, and no part of the library.
    const ofLibrary = ([path]: readonly [string, string]) => !path.startsWith("src/dashboard/ui/")
    const files = new Map(["src", "migrations"].flatMap((folder) => sources(folder)).filter(ofLibrary))
    assert.deepStrictEqual(breaches({ files, levels, doors, sqlHomes, exceptions }), [])
  })

  it("has nothing at the top but what the design names", () => {
    const allowed = new Set([
      ..."package.json package-lock.json tsconfig.json README.md LICENSE CHANGELOG.md".split(" "),
      ..."CONTRIBUTING.md SECURITY.md AGENTS.md src test migrations examples docs".split(" "),
      // Made, not kept.
      ..."node_modules dist coverage".split(" ")
    ])
    const strangers = Fs.readdirSync(root).filter((name) => !name.startsWith(".") && !allowed.has(name))
    assert.deepStrictEqual(strangers, [])
  })

  it("lets examples import what users can import", () => {
    const relative = /from "(\.\.\/[^"]+)"/g
    const insiders = sources("examples").flatMap(([path, text]) =>
      [...text.matchAll(relative)].map(([, specifier]) => `${path} imports ${specifier}`)
    )
    assert.deepStrictEqual(insiders, [])
  })
})

describe("package.json", () => {
  const { exports } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8")) as {
    readonly exports: Record<string, null | string | { readonly source: string }>
  }

  it("exports only what is there", () => {
    const missing = Object.values(exports)
      .map((target) => (target === null ? "package.json" : typeof target === "string" ? target : target.source))
      .filter((target) => !target.includes("*") && !Fs.existsSync(Path.join(root, target)))
    assert.deepStrictEqual(missing, [])
  })

  it("gives every door one entry and blocks the files behind it", () => {
    const folders = Fs.readdirSync(Path.join(root, "src"), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name !== "internal")
      .map((entry) => entry.name)
    for (const folder of folders) {
      assert.include(doors, folder)
      assert.property(exports, `./${folder}`)
      assert.isNull(exports[`./${folder}/*`], `"./${folder}/*": null`)
    }
    assert.isNull(exports["./internal/*"])
  })
})

describe("the checker", () => {
  it("accepts imports of the same and of lower levels", () => {
    assert.deepStrictEqual(check({}), [])
  })

  it("refuses a file without a level", () => {
    assert.deepStrictEqual(check({ "src/Stray.ts": "" }), [
      "level: src/Stray.ts has no level yet: place it in test/setup/levels.ts"
    ])
  })

  it("refuses an import that points up, of types too and in any form", () => {
    for (const text of [
      `import type { B } from "./B.ts"`,
      `import * as B from "./B.ts"`,
      `import "./B.ts"`,
      `export * from "./B.ts"`,
      `const b = await import("./B.ts")`,
      `type B = import("./B.ts").B`
    ]) {
      assert.deepStrictEqual(
        check({ "src/A.ts": text, "src/B.ts": "" }),
        ["level: src/A.ts (low) points up to src/B.ts (high)"],
        text
      )
    }
  })

  it("refuses a cycle, of types too", () => {
    assert.deepStrictEqual(
      check({ "src/A.ts": `import type { A2 } from "./A2.ts"`, "src/A2.ts": `import type { A } from "./A.ts"` }),
      ["cycle: src/A.ts → src/A2.ts → src/A.ts"]
    )
  })

  it("refuses an import of nothing and of the front door", () => {
    assert.deepStrictEqual(check({ "src/B.ts": `import "./gone.ts"\nimport "./index.ts"`, "src/index.ts": "" }), [
      "import: src/B.ts imports src/gone.ts, which is not there",
      "import: src/B.ts imports the front door: name the module"
    ])
  })

  it("refuses packages that are no dependencies, the barrel and Effect's internals", () => {
    for (const specifier of [
      "effect",
      "effect/internal/core",
      "node:fs",
      "pg",
      "@effect/sql-pg",
      "effect-shigoto/Job"
    ]) {
      assert.deepStrictEqual(
        check({ "src/A.ts": `import * as X from "${specifier}"` }),
        [`package: src/A.ts imports ${specifier}, which is no dependency of this part`],
        specifier
      )
    }
    assert.deepStrictEqual(check({ "src/embedded/index.ts": `import * as Fs from "node:fs"` }), [])
  })

  it("keeps doors out of the core and private modules out of doors", () => {
    assert.include(
      check({ "src/A.ts": `import "./embedded/index.ts"`, "src/embedded/index.ts": "" }),
      "door: src/A.ts imports the door src/embedded/index.ts"
    )
    assert.deepStrictEqual(
      check({
        "src/embedded/index.ts": `import "../internal/x.ts"\nimport "./internal/own.ts"\nimport "../A.ts"`,
        "src/embedded/internal/own.ts": "",
        "src/internal/x.ts": ""
      }),
      ["door: src/embedded/index.ts imports src/internal/x.ts, which users cannot"]
    )
  })

  it("finds SQL outside its home, tagged or not", () => {
    for (const text of [
      "const a = sql`anything`",
      "const a = client.sql`anything`",
      "const a = sql<{ a: string }>`anything`",
      "const a = `WITH a AS (SELECT id FROM jobs)`",
      `const a = "UPDATE jobs SET state = 1"`,
      "const a = `INSERT INTO ${table} (id)`",
      "const a = `DELETE FROM jobs`",
      `const a = "CREATE UNIQUE INDEX a ON b (c)"`
    ]) {
      const [first, ...rest] = check({ "src/A.ts": text })
      assert.match(first ?? "", /^sql: src\/A\.ts holds SQL outside its home: /, text)
      assert.deepStrictEqual(rest, [])
    }
    assert.deepStrictEqual(check({ "src/A.ts": "const a = `Update the job, then select one from the list.`" }), [])
    assert.deepStrictEqual(check({ "src/A.ts": "/* SELECT id FROM jobs */" }), [])
    assert.deepStrictEqual(check({ "src/internal/sql/claim.ts": "const a = sql`SELECT 1`" }), [])
  })

  it(`refuses more than ${maxLines} lines`, () => {
    assert.deepStrictEqual(check({ "src/A.ts": "//\n".repeat(maxLines) }), [])
    assert.deepStrictEqual(check({ "src/A.ts": "//\n".repeat(maxLines + 1) }), [
      `size: src/A.ts has ${maxLines + 1} lines, and ${maxLines} is the wall`
    ])
  })

  it("asks public modules for a docstring above each export", () => {
    const bare = (names: Array<string>) =>
      names.map((name) => `docs: src/A.ts exports ${name} without a docstring right above it`)
    assert.deepStrictEqual(check({ "src/A.ts": "export const a = 1\nexport interface B {}" }), bare(["a", "B"]))
    assert.deepStrictEqual(check({ "src/A.ts": "/** of the file */\nconst x = 1\nexport class A {}" }), bare(["A"]))
    assert.deepStrictEqual(check({ "src/A.ts": "// not this\nexport function f() {}" }), bare(["f"]))
    assert.deepStrictEqual(check({ "src/A.ts": "/** A. */\nexport type A = 1\nexport const A = 1" }), [])
    assert.deepStrictEqual(check({ "src/A.ts": `export * as B from "effect/Effect"` }), [])
    assert.deepStrictEqual(check({ "src/internal/x.ts": "export const a = 1" }), [])
  })

  it("reads an exception once, and refuses one that is no longer needed", () => {
    const exception = { rule: "package", file: "src/A.ts", what: "imports pg", reason: "a test" } as const
    assert.deepStrictEqual(check({ "src/A.ts": `import "pg"` }, [exception]), [])
    assert.deepStrictEqual(check({}, [exception]), [`exception: src/A.ts no longer needs "package: imports pg"`])
  })

  it("reports what it cannot read", () => {
    assert.match(check({ "src/A.ts": "const = " })[0] ?? "", /^syntax: src\/A\.ts: /)
  })
})

const check = (files: Record<string, string>, excused: Input["exceptions"] = []) =>
  breaches({
    files: new Map(
      Object.entries({
        "src/A.ts": "",
        "src/B.ts": `import * as Effect from "effect/Effect"\nimport type { A } from "./A.ts"`,
        ...files
      })
    ),
    levels: [
      { name: "low", files: ["src/A.ts", "src/A2.ts", "src/internal/*"] },
      { name: "high", files: ["src/B.ts"] },
      { name: "front", files: ["src/index.ts"] },
      { name: "doors", files: ["src/embedded/*"] }
    ],
    doors: ["embedded"],
    sqlHomes: ["src/internal/sql/"],
    exceptions: excused
  })

/** Path and text of each TypeScript file in a folder, at any depth. */
const sources = (folder: string): Array<[path: string, text: string]> =>
  Fs.readdirSync(Path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => /\.tsx?$/.test(file))
    .map((file) => Path.posix.join(folder, file.replaceAll(Path.sep, "/")))
    .map((path) => [path, Fs.readFileSync(Path.join(root, path), "utf8")])
