import { describe, expect, it } from "vitest"

import { createLogger, withoutSecrets } from "../../src/log.ts"

function linesOf(write: (logger: ReturnType<typeof createLogger>) => void): Record<string, unknown>[] {
  const lines: string[] = []
  const destination = { write: (line: string) => void lines.push(line) }
  write(createLogger({ level: "info", role: "worker", destination }))
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
}

describe("createLogger", () => {
  it("writes one object a line, with the role and the time in UTC", () => {
    const [line] = linesOf((logger) => logger.info({ rollbackId: "r", step: "s" }, "step finished"))
    expect(line).toMatchObject({ level: "info", role: "worker", rollbackId: "r", step: "s", msg: "step finished" })
    expect(line?.["time"]).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
  })

  it("keeps quiet below its level", () => {
    expect(linesOf((logger) => logger.debug("looked"))).toEqual([])
  })

  it.each(["token", "password", "authorization", "response_url", "databaseUrl", "SLACK_SIGNING_SECRET"])(
    "takes out a field called %s, two levels down and in children too",
    (name) => {
      const lines = linesOf((logger) => {
        logger.info({ [name]: "hunter2", a: { [name]: "hunter2", b: { [name]: "hunter2" } } }, "happened")
        logger.child({ [name]: "hunter2" }).info("happened")
      })
      expect(lines).toHaveLength(2)
      expect(JSON.stringify(lines)).not.toContain("hunter2")
    },
  )

  it("takes secrets out of messages and errors", () => {
    const error = new Error("connect postgres://stepback:hunter2@db:5432/state failed")
    const lines = linesOf((logger) => logger.error({ err: error }, "called with xoxb-12-hunter2"))
    expect(JSON.stringify(lines)).not.toContain("hunter2")
    expect(JSON.stringify(lines)).toContain("@db:5432/state failed")
  })
})

describe("an error of a database", () => {
  const refused = (code: string, message: string) =>
    Object.assign(new Error(message), {
      severity: "ERROR",
      code,
      detail: "Failing row contains (7, hunter2).",
      where: "unnamed portal parameter $1 = 'hunter2'",
      internalQuery: "select 'hunter2'::mood",
      table: "config",
    })
  const quoting = refused("22P02", 'invalid input value for enum mood: "hunter2"')

  it.each<[string, Error]>([
    ["itself", refused("23514", 'new row violates check constraint "calm"')],
    ["whose message quotes a value", quoting],
    ["as a cause", new Error("the baseline cannot be compared", { cause: quoting })],
    ["among others", new AggregateError([quoting], "none answered")],
  ])("is written without what rows hold: %s", (_name, error) => {
    const lines = linesOf((logger) => logger.error({ err: error }, "look failed"))
    expect(JSON.stringify(lines)).not.toContain("hunter2")
    expect(JSON.stringify(lines)).toContain("log.test.ts")
    expect(lines[0]?.["err"]).toMatchObject({ message: expect.stringMatching(/calm|22P02|none answered/) })
  })

  it("keeps its code and its table, and what other errors tell", () => {
    const circle: Record<string, unknown> = { detail: "a word" }
    circle["self"] = circle
    const odd = Object.assign(new Error("no"), { code: "EODD", detail: "a word", circle })
    const lines = linesOf((logger) => {
      logger.error({ err: quoting }, "look failed")
      logger.error({ err: odd }, "look failed")
    })
    expect(lines[0]?.["err"]).toMatchObject({ type: "Error", code: "22P02", table: "config", severity: "ERROR" })
    expect(lines[1]?.["err"]).toMatchObject({ code: "EODD", detail: "a word", circle: { detail: "a word" } })
  })
})

describe("withoutSecrets", () => {
  it.each([
    ["redis://:hunter2@redis:6379", "redis://:[secret]@redis:6379"],
    ["Authorization: Bearer hunter2hunter2", "Authorization: Bearer [secret]"],
    ["https://hooks.slack.com/commands/T1/2/hunter2", "https://hooks.slack.com/[secret]"],
    ["http://127.0.0.1:3000/slack/events by a@b.example", "http://127.0.0.1:3000/slack/events by a@b.example"],
    ["step remove-quotes of R-17 took 12 ms", "step remove-quotes of R-17 took 12 ms"],
  ])("reads %s as %s", (given, expected) => {
    expect(withoutSecrets(given)).toBe(expected)
  })
})
