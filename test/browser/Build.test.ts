/** What is built for the page: small, whole, and asking for nothing from elsewhere. */
import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { gzipSync } from "node:zlib"

const folder = new URL("../../dist/ui/", import.meta.url)
const text = (name: string): string => readFileSync(new URL(name, folder), "utf8")
const html = text("index.html")
const files = readdirSync(new URL("assets/", folder)).map((name) => `assets/${name}`)
const zipped = (names: ReadonlyArray<string>): number =>
  names.reduce((sum, name) => sum + gzipSync(readFileSync(new URL(name, folder)), { level: 9 }).length, 0)

describe("the build of the page", () => {
  it("has at most 150 KiB of gzipped code at first, 20 KiB of styles, and 1 MiB in all", () => {
    const first = [...html.matchAll(/src="\.\/(assets\/[^"]+\.js)"/g)].map(([, name]) => name as string) // one group
    assert.isNotEmpty(first)
    assert.isAtMost(zipped(first), 150 * 1024)
    assert.isAtMost(zipped(files.filter((name) => name.endsWith(".css"))), 20 * 1024)
    assert.isAtMost(
      files.reduce((sum, name) => sum + readFileSync(new URL(name, folder)).length, 0),
      1024 * 1024
    )
  })

  it("has neither inline code nor inline styles, so that a strict policy holds", () => {
    assert.notMatch(html, /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:/i)
    for (const name of files.filter((one) => one.endsWith(".js"))) {
      assert.notMatch(text(name), /\beval\(|new Function\(/, name)
    }
  })

  it("loads nothing from elsewhere, and imports no package at run time", () => {
    const origins = new Set<string>()
    for (const name of ["index.html", ...files]) {
      const content = text(name)
      for (const [url] of content.matchAll(/https?:\/\/[\w.-]+/g)) origins.add(url)
      assert.notMatch(content, /@import|url\((?!["']?data:)/, name)
      // Of its own parts alone.
      for (const [, from] of content.matchAll(/\b(?:from|import)\s*\(?\s*["'`]([^"'`]+)["'`]/g)) {
        assert.match(from ?? "", /^\.\.?\//, name)
      }
    }
    // Names of XML and the addresses of explanations in messages: nothing asks for them.
    assert.sameMembers(
      [...origins].filter(
        (origin) => !["http://www.w3.org", "https://react.dev", "https://tanstack.com"].includes(origin)
      ),
      []
    )
  })

  it("names the packages that it holds, with their licences", () => {
    const notices = text("THIRD-PARTY-NOTICES.txt")
    for (const name of [
      "react",
      "react-dom",
      "scheduler",
      "@tanstack/react-query",
      "@tanstack/query-core",
      "uplot",
      "@dagrejs/dagre"
    ]) {
      assert.match(notices, new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\(MIT\\)$`, "m"))
    }
    assert.include(notices, "Permission is hereby granted")
  })
})
