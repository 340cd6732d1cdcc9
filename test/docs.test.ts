import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { declares, readFields, readModule } from "./setup/reference/declarations.ts"

const root = Path.join(import.meta.dirname, "..")
const pages = ["README.md", ...Fs.readdirSync(Path.join(root, "docs")).map((name) => `docs/${name}`)].filter((page) =>
  page.endsWith(".md")
)
const reference = Fs.readdirSync(Path.join(root, "docs/reference")).map((name) => `docs/reference/${name}`)
const others = ["CHANGELOG.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md"]
const read = (page: string) => Fs.readFileSync(Path.join(root, page), "utf8")

/** The code of a page that claims to be TypeScript. */
const blocks = (page: string) =>
  [...read(page).matchAll(/^```ts(?: run)?\n(.*?)^```$/gms)].map(([, code]) => code ?? "")

/** What each name that the library exports has: members of a module, fields of a service, statics. */
const library = new Map<string, Set<string>>()
for (const door of ["src", "src/testing", "src/embedded", "src/dashboard", "src/cli"]) {
  for (const [, namespace, names = "", target = ""] of read(`${door}/index.ts`).matchAll(
    /^export (?:type )?(?:\* as (\w+)|\{ ([^}]+) \}) from "\.\/(\S+)"$/gm
  )) {
    const path = Path.posix.join(door, target)
    const { declarations, passedOn } = readModule(path)
    const members = [...declarations, ...passedOn].map(({ name }) => name)
    for (const name of namespace === undefined ? names.replaceAll("type ", "").split(", ") : [namespace]) {
      const isModule = name === Path.basename(path, ".ts")
      const isDeclared = namespace === undefined || declarations.some((declaration) => declaration.name === name)
      const fields = isDeclared && declares(path, name) ? readFields(path, name).map((field) => field.name) : []
      library.set(name, new Set([...(isModule ? members : []), ...fields]))
    }
  }
}

/** `Name.member` in code of a text; of tables that name what is elsewhere, the first column. */
const namedIn = (text: string, isFirstColumn: boolean) =>
  [...(isFirstColumn ? text.replaceAll(/^(\|[^|]*\|).*$/gm, "$1") : text).matchAll(/`([^`\n]+)`/g)].flatMap(
    ([, code = ""]) =>
      [...code.matchAll(/(?<![\w./])([A-Z]\w+)\.(?!(?:test\.)?ts\b)(\w+)/g)].map(([, name = "", member = ""]) => ({
        name,
        member
      }))
  )

describe("documentation", () => {
  it("has code that type-checks, each block on its own", async () => {
    // Inside the package, so that `effect-shigoto` is this source tree, as it is for the examples.
    Fs.mkdirSync(Path.join(root, "dist"), { recursive: true })
    const folder = Fs.mkdtempSync(Path.join(root, "dist", "docs-"))
    try {
      for (const page of pages) {
        for (const [i, code] of blocks(page).entries()) {
          Fs.writeFileSync(Path.join(folder, `${page.replaceAll("/", "-")}.${i + 1}.ts`), code)
        }
      }
      const config = { extends: "../../test/tsconfig.json", compilerOptions: { rootDir: "../.." }, include: ["."] }
      // A block may declare what only its prose talks about.
      const compilerOptions = { ...config.compilerOptions, noUnusedLocals: false, noUnusedParameters: false }
      Fs.writeFileSync(Path.join(folder, "tsconfig.json"), JSON.stringify({ ...config, compilerOptions, exclude: [] }))
      const tsc = Path.join(root, "node_modules", "typescript", "bin", "tsc")
      const errors = await new Promise<string>((resolve) => {
        execFile(process.execPath, [tsc, "-p", folder, "--pretty", "false"], (error, stdout, stderr) =>
          resolve(error === null ? "" : `${stdout}${stderr}${error.message}`)
        )
      })
      assert.strictEqual(errors, "")
    } finally {
      Fs.rmSync(folder, { recursive: true, force: true })
    }
  })

  it("has code in languages that are looked at, or need not be", () => {
    const others = pages.flatMap((page) =>
      [...read(page).matchAll(/^```([^\n]*)\n.*?^```$/gms)]
        .map(([, language = ""]) => language)
        .filter((language) => !["ts", "ts run", "sh", "sql run", "json", "text", ""].includes(language))
        .map((language) => `${page} has code in "${language}"`)
    )
    assert.deepStrictEqual(others, [])
  })

  it("shows in README the code of an example that runs", () => {
    const [code = "no code"] = blocks("README.md")
    assert.include(read("examples/quickstart.ts"), code)
  })

  it("links to files that are there", () => {
    const dead = [...pages, ...reference, ...others].flatMap((page) =>
      [...read(page).matchAll(/(?:\]\(|(?:src|srcset)=")(?!https?:|#)([^)#"]+)/g)]
        .map(([, target]) => Path.join(Path.dirname(page), target ?? ""))
        .filter((target) => !Fs.existsSync(Path.join(root, target)))
        .map((target) => `${page} links to ${target}`)
    )
    assert.deepStrictEqual(dead, [])
  })

  it("links to headings that are there", () => {
    const headings = (page: string) =>
      [
        ...read(page)
          .replaceAll(/^```.*?^```$/gms, "")
          .matchAll(/^#+ (.+)$/gm)
      ].map(([, heading = ""]) =>
        heading
          .toLowerCase()
          .replaceAll(/[^\w\- ]/g, "")
          .replaceAll(" ", "-")
      )
    const dead = [...pages, ...others].flatMap((page) =>
      [...read(page).matchAll(/\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)/g)]
        .map(([, target = "", anchor = ""]) => ({
          anchor,
          target: target === "" ? page : Path.posix.join(Path.posix.dirname(page), target)
        }))
        .filter(({ anchor, target }) => !headings(target).includes(anchor))
        .map(({ anchor, target }) => `${page} links to ${target}#${anchor}`)
    )
    assert.deepStrictEqual(dead, [])
  })

  it("has guides of one shape: what, code, and where to go on", () => {
    const guides = [
      ...read("docs/README.md")
        .split("## Guides")[1]!
        .split("## Operate")[0]!
        .matchAll(/\((\S+\.md)\)/g)
    ]
    assert.isAtLeast(guides.length, 20)
    const others = guides.flatMap(([, page = ""]) => {
      const text = read(`docs/${page}`)
      return [
        ...(/^# .+\n\n[^#]/.test(text) ? [] : [`${page} does not begin with what it is about`]),
        ...(text.includes("```") ? [] : [`${page} shows no code`]),
        ...(/^## See also\n\n[^#]+$/m.test(text) ? [] : [`${page} does not end with "See also"`])
      ]
    })
    assert.deepStrictEqual(others, [])
  })

  it("leads to every guide and every example", () => {
    const targets = new Set(
      pages.flatMap((page) =>
        [...read(page).matchAll(/\]\((?!https?:)([^)#\s]+)/g)].map(([, target = ""]) =>
          Path.posix.join(Path.posix.dirname(page), target)
        )
      )
    )
    const examples = Fs.readdirSync(Path.join(root, "examples")).filter((name) => name.endsWith(".ts"))
    const index = read("docs/README.md")
    assert.deepStrictEqual(
      [
        ...examples.map((name) => `examples/${name}`).filter((path) => !targets.has(path)),
        ...pages.filter(
          (page) => page !== "docs/README.md" && page.startsWith("docs") && !index.includes(`(${Path.basename(page)})`)
        )
      ],
      []
    )
  })

  it("tells assistants of pages that are in the package", () => {
    const dead = [...read("docs/llms.txt").matchAll(/\]\(([^)]+)\)/g)].map(([, target = ""]) => target)
    assert.isAtLeast(dead.length, 30)
    assert.deepStrictEqual(
      dead.filter((target) => target.includes("/") || !Fs.existsSync(Path.join(root, "docs", target))),
      []
    )
  })

  it("names in its prose what the library has", () => {
    const wrong = [...pages, ...others].flatMap((page) =>
      namedIn(read(page).replaceAll(/^```.*?^```$/gms, ""), page === "docs/coming-from.md")
        .filter(({ member, name }) => library.get(name)?.has(member) === false)
        .map(({ member, name }) => `${page} names ${name}.${member}`)
    )
    assert.deepStrictEqual(wrong, [])
    const found = namedIn("`Cipher.layer({ … })` of `src/Cipher.ts`, and `Jobs.get`", false)
    assert.deepStrictEqual(
      found.filter(({ member, name }) => library.get(name)?.has(member) === false),
      [{ name: "Cipher", member: "layer" }]
    )
  })

  it("leaves no cell empty where it says what things are called elsewhere", () => {
    const empty = read("docs/coming-from.md")
      .split("\n")
      .filter((line) => line.startsWith("|") && !line.startsWith("| |") && /\|\s*\|/.test(line))
    assert.deepStrictEqual(empty, [])
  })

  it("keeps README to a length that gets read", () => {
    assert.isAtMost(read("README.md").split("\n").length, 250)
  })
})
