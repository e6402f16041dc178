import { describe, expect, it } from "vitest"

import { readConfig } from "../../src/config.ts"

const complete = {
  SLACK_BOT_TOKEN: "xoxb-1",
  SLACK_SIGNING_SECRET: "shh",
  DATABASE_URL: "postgres://user:pw@localhost/stepback",
}

function problemsOf(env: Record<string, string | undefined>): string[] {
  const result = readConfig(env)
  return result.ok ? [] : result.problems.map((found) => `${found.name} ${found.problem}`)
}

function configOf(env: Record<string, string | undefined>) {
  const result = readConfig(env)
  if (!result.ok) throw new Error(JSON.stringify(result.problems))
  return result.config
}

describe("readConfig", () => {
  it("fills in the documented defaults", () => {
    expect(configOf(complete)).toEqual({
      slack: { botToken: "xoxb-1", signingSecret: "shh", appToken: null, apiUrl: null },
      databaseUrl: "postgres://user:pw@localhost/stepback",
      redisUrl: null,
      plansFolder: "plans",
      role: "all",
      port: 3000,
      logLevel: "info",
      workerConcurrency: 10,
    })
  })

  it("tells all missing variables at once, each with what it is for", () => {
    const result = readConfig({})
    expect(result.ok).toBe(false)
    if (result.ok) return
    expect(result.problems.map((found) => found.name)).toEqual([
      "SLACK_BOT_TOKEN",
      "SLACK_SIGNING_SECRET",
      "DATABASE_URL",
    ])
    for (const found of result.problems) {
      expect(found.problem).toBe("is missing")
      expect(found.purpose.length).toBeGreaterThan(20)
    }
  })

  it("tells missing and malformed variables in one answer", () => {
    expect(
      problemsOf({ DATABASE_URL: "mysql://x", PORT: "http", STEPBACK_ROLE: "boss", REDIS_URL: "localhost:6379" }),
    ).toEqual([
      "SLACK_BOT_TOKEN is missing",
      "SLACK_SIGNING_SECRET is missing",
      "DATABASE_URL is not a postgres:// address",
      expect.stringMatching(/^REDIS_URL is not a redis:\/\/ or rediss:\/\/ address/),
      "STEPBACK_ROLE is not one of all, bot, worker",
      "PORT is not a whole number from 0 to 65535",
    ])
  })

  it.each([
    "redis://localhost",
    "rediss://:pa%2Css,word@host:6380/2",
    "redis://one:7000,redis://two:7000",
    '["redis://one:7000", {"host": "two", "port": 7000, "password": "x"}]',
    '{"sentinels": [{"host": "one", "port": 26379}], "name": "queue", "password": "x", "db": 1}',
  ])("takes one Redis, a Cluster's nodes and a Sentinel's options: %s", (address) => {
    expect(configOf({ ...complete, REDIS_URL: address })).toMatchObject({ redisUrl: address })
  })

  it.each([
    "redis://one:7000,two:7000",
    "redis://one:7000, redis://two:7000",
    "redis://:%E0%A4%A@host",
    "redis://host:port",
    "[]",
    '[{"port": 7000}]',
    '{"sentinels": [], "name": "queue"}',
    '{"sentinels": [{"host": "one"}]}',
    '{"sentinels": [{"host": "hunter2"}], "name": ',
  ])("refuses what the client would trip over, without quoting it: %s", (address) => {
    const problems = problemsOf({ ...complete, REDIS_URL: address })
    expect(problems).toEqual([expect.stringMatching(/^REDIS_URL is not a redis:.*Cluster.*"sentinels"/)])
    expect(problems.join()).not.toContain("hunter2")
  })

  it("takes an empty or blank variable for a missing one", () => {
    expect(problemsOf({ ...complete, SLACK_BOT_TOKEN: "", DATABASE_URL: "  " })).toEqual([
      "SLACK_BOT_TOKEN is missing",
      "DATABASE_URL is missing",
    ])
    expect(configOf({ ...complete, PORT: "", REDIS_URL: "" })).toMatchObject({ port: 3000, redisUrl: null })
  })

  it("never repeats a value: it may be a secret in the wrong place", () => {
    const result = readConfig({ ...complete, REDIS_URL: "hunter2", DATABASE_URL: "hunter2", PORT: "hunter2" })
    expect(JSON.stringify(result)).not.toContain("hunter2")
  })

  it("needs no signing secret in Socket Mode, nor in a process that only works", () => {
    const { SLACK_SIGNING_SECRET: _, ...without } = complete
    expect(problemsOf(without)).toEqual(["SLACK_SIGNING_SECRET is missing"])
    expect(problemsOf({ ...without, STEPBACK_ROLE: "bot" })).toEqual(["SLACK_SIGNING_SECRET is missing"])
    expect(configOf({ ...without, SLACK_APP_TOKEN: "xapp-1" }).slack.appToken).toBe("xapp-1")
    expect(configOf({ ...without, STEPBACK_ROLE: "worker" })).toMatchObject({
      role: "worker",
      slack: { signingSecret: null },
    })
  })

  it("notices tokens that were swapped", () => {
    expect(problemsOf({ ...complete, SLACK_BOT_TOKEN: "xapp-1", SLACK_APP_TOKEN: "xoxb-1" })).toEqual([
      "SLACK_BOT_TOKEN holds an app-level token (xapp-…)",
      "SLACK_APP_TOKEN holds a bot token (xoxb-…)",
    ])
  })

  // A header does not take them, and the error that says so quotes the token.
  it.each(["SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN"])("refuses %s that no header takes", (name) => {
    for (const value of ["hunter2\nhunter3", "“hunter2”", "hunter\u00a02", "hunter2\u200b"])
      expect(problemsOf({ ...complete, [name]: value })).toEqual([
        `${name} holds a line break, a typographic quote or an odd space`,
      ])
    for (const value of ['"hunter2"', "'hunter2'"])
      expect(problemsOf({ ...complete, [name]: value })).toEqual([`${name} stands in quotes: leave them out`])
    expect(problemsOf({ ...complete, [name]: "any +of/them=it's.1" })).toEqual([])
  })

  it.each([
    ["http://127.0.0.1:4000/api", "http://127.0.0.1:4000/api/"],
    ["http://127.0.0.1:4000/api/", "http://127.0.0.1:4000/api/"],
    ["http://127.0.0.1:4000", "http://127.0.0.1:4000/"],
  ])("reads the Web API's base %s as %s", (given, expected) => {
    expect(configOf({ ...complete, SLACK_API_URL: given }).slack.apiUrl).toBe(expected)
  })

  it("refuses a Web API whose address holds a password, which every error would quote", () => {
    expect(problemsOf({ ...complete, SLACK_API_URL: "https://us:hunter2@slack.example/api" })).toEqual([
      "SLACK_API_URL holds a name or a password, which it cannot",
    ])
  })

  it.each([
    ["PORT", "0", []],
    ["PORT", "65535", []],
    ["PORT", "65536", ["PORT is not a whole number from 0 to 65535"]],
    ["PORT", "-1", ["PORT is not a whole number from 0 to 65535"]],
    ["PORT", "1e3", ["PORT is not a whole number from 0 to 65535"]],
    ["WORKER_CONCURRENCY", "1", []],
    ["WORKER_CONCURRENCY", "0", ["WORKER_CONCURRENCY is not a whole number from 1 to 1000"]],
    ["LOG_LEVEL", "debug", []],
    ["LOG_LEVEL", "loud", ["LOG_LEVEL is not one of fatal, error, warn, info, debug, trace, silent"]],
  ])("checks %s=%s", (name, value, expected) => {
    expect(problemsOf({ ...complete, [name]: value })).toEqual(expected)
  })
})
