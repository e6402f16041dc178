import fc from "fast-check"
import { describe, expect, it } from "vitest"

import { parseCommand, type Typed } from "../../../src/bot/parse-command.ts"
import { verbs } from "../../../src/plans/verbs.ts"

const parameters: Record<string, readonly string[]> = { staging: ["good", "since"] }
const parse = (text: string): Typed =>
  parseCommand(text, (environment) => (Object.hasOwn(parameters, environment) ? parameters[environment]! : []))
const request = (text: string) => {
  const typed = parse(text)
  if (typed.kind !== "request") throw new Error(`${text} is ${typed.kind}`)
  return typed
}

describe("what is typed behind /rollback", () => {
  it.each(["", "   ", "\n\t", "help", "HELP", "help me"])("%j is help", (text) => {
    expect(parse(text)).toEqual({ kind: "help" })
  })

  it("takes all words but options for the reason", () => {
    expect(request("staging scoring config is broken, only prism")).toEqual({
      kind: "request",
      environment: "staging",
      selection: { only: null, with: [], parameters: {} },
      reason: "scoring config is broken, only prism",
    })
  })

  it.each(["-it broke at noon", "prices are off -both sides", "scores -will tell more", "-old plan", "-one more try"])(
    "a word with a hyphen is a reason, where it is not nearly an option: %s",
    (reason) => expect(request(`staging ${reason}`).reason).toBe(reason),
  )

  it.each<[string, string[] | null, string[]]>([
    ["staging --only a,b", ["a", "b"], []],
    ["staging --only=a --only b", ["a", "b"], []],
    ["staging --only a, b", ["a", "b"], []],
    ["staging --only=a, b, c", ["a", "b", "c"], []],
    ["staging it is late --with c", null, ["c"]],
    ["staging —only a", ["a"], []],
    ["staging –with c", null, ["c"]],
    ["staging --ONLY a,,b,", ["a", "b"], []],
  ])("%s narrows and widens", (text, only, added) => {
    expect(request(text).selection).toEqual({ only, with: added, parameters: {} })
  })

  it.each([
    "staging --only",
    "staging --only ,",
    "staging --with=",
    "staging --force",
    "staging --yes now",
    "staging --approve",
    "staging --no-approval",
  ])("%s is refused, not guessed", (text) => expect(parse(text)).toMatchObject({ kind: "bad_option" }))

  it.each([
    ["staging --onyl a", "--only"],
    ["rehearse staging --wiht=c", "--with"],
    ["baseline staging captrue", "capture"],
    ["staging --force", null],
    ["staging --only", null],
    ["staging -only a", "--only"],
    ["staging it is late -with=c", "--with"],
    ["rehearse staging ‑olny a", "--only"],
    ["staging it is off since= 2026-10-01", null],
  ])("%s: what was meant is guessed, not done", (text, nearest) =>
    expect(parse(text)).toMatchObject({ kind: "bad_option", nearest }),
  )

  it("takes name=value in front of the reason, and known names anywhere", () => {
    expect(request("staging good=v1 it=broke now good=v2 a=b")).toMatchObject({
      selection: { parameters: { good: "v2", it: "broke" } },
      reason: "now a=b",
    })
  })

  it.each(["__proto__", "constructor", "toString", "hasOwnProperty"])(
    "%s=x is a parameter like any other, and pollutes nothing",
    (name) => {
      const typed = request(`staging ${name}=x`)
      expect(Object.entries(typed.selection.parameters)).toEqual([[name, "x"]])
      expect(({} as Record<string, unknown>)["x"]).toBeUndefined()
    },
  )

  it.each([
    "__proto__",
    "constructor",
    "../x",
    "..",
    "staging/../x",
    "$(id)",
    "'; drop table x",
    "<!channel>",
    "<@U0BOB>",
  ])("the environment %s is only a word", (word) => {
    expect(parse(word)).toMatchObject({ kind: "request", environment: word.split(" ")[0]!.toLowerCase() })
  })

  it("undoes Slack's escapes once, not twice", () => {
    expect(request("staging a &lt;b&gt; &amp;lt;c").reason).toBe("a <b> &lt;c")
  })

  it.each(verbs.filter((verb) => !["help", "status", "history"].includes(verb)))(
    "%s alone never asks for a rollback",
    (verb) => {
      expect(parse(verb).kind).toBe("incomplete")
    },
  )

  it("an emoji, ten thousand words, unbalanced quotes, bidi: all are words", () => {
    expect(parse("🔥🔥")).toMatchObject({ kind: "request", environment: "🔥🔥" })
    expect(request(`staging ${"word ".repeat(10_000)}`).reason.length).toBe(49_999)
    expect(request(`staging "it's \` broken`).reason).toBe(`"it's \` broken`)
    expect(request("staging \u202eevil\u200b").reason).toBe("\u202eevil\u200b")
  })

  const texts = fc.array(fc.string({ unit: "binary" }), { maxLength: 4 }).map((words) => words.join(" "))

  it("never throws, and never makes an approval or a rollback of another word than the first", () => {
    fc.assert(
      fc.property(texts, (text) => {
        const typed = parse(text)
        const written = text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&")
        if (typed.kind === "request") expect(typed.environment).toBe(written.trim().split(/\s+/)[0]?.toLowerCase())
      }),
    )
  })
})
