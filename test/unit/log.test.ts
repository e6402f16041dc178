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
