/** What the compiler tells who got something wrong: one file of types/refused for each mistake. */
import { assert, describe } from "@effect/vitest"
import { execFile } from "node:child_process"
import { readdirSync } from "node:fs"
import { basename } from "node:path"
import { fileURLToPath } from "node:url"
import { beforeAll, it } from "vitest"

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

/** Each file's messages hold all of its lines, and nothing is refused but what the file is about. */
const expected: Readonly<Record<string, ReadonlyArray<string>>> = {
  args: ["Type 'number' is not assignable to type 'string'."],
  cronArgs: ["Type 'number' is not assignable to type 'string'."],
  error: ["Type 'Bounced' is not assignable to type 'Signal'"],
  noResult: ["Type 'void' is not assignable to type '{ readonly messageId: string; }'."],
  requirements: ["Type 'Mailer' is not assignable to type 'never'."],
  result: ["Types of property 'messageId' are incompatible.", "Type 'number' is not assignable to type 'string'."],
  retry: ["Type 'AttemptError' is not assignable to type 'string'."],
  uniqueKey: [`Type '"args.nope"' is not assignable to type 'UniqueKey<{ readonly to: string; }>'.`]
}

describe("a mistake is refused with a message that names it", () => {
  const messages = new Map<string, Array<string>>()
  beforeAll(async () => {
    const output = await new Promise<string>((resolve) =>
      execFile(
        process.execPath,
        [path("../node_modules/typescript/bin/tsc"), "--noEmit", "--pretty", "false", "-p", path("types/refused")],
        { maxBuffer: 16 * 1024 * 1024 },
        (_, stdout, stderr) => resolve(`${stdout}${stderr}`)
      )
    )
    // A message is a line that begins with its place, and the indented lines below it.
    for (const message of output.split(/\n(?! )/).filter((text) => text.trim() !== "")) {
      const name = basename(message.slice(0, message.indexOf("(")), ".ts")
      messages.set(name, [...(messages.get(name) ?? []), message])
    }
  })

  it("has a file for each, and no message about another", () => {
    const files = readdirSync(path("types/refused")).filter((file) => file.endsWith(".ts"))
    assert.sameMembers(
      files.map((file) => basename(file, ".ts")),
      Object.keys(expected)
    )
    assert.sameMembers([...messages.keys()], Object.keys(expected))
  })

  for (const [name, lines] of Object.entries(expected)) {
    it(name, () => {
      const found = messages.get(name) ?? []
      assert.strictEqual(found.length, 1, found.join("\n"))
      for (const line of lines) assert.include(found[0], line)
    })
  }
})
