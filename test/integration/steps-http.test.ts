import { once } from "node:events"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { LostLeaseError } from "../../src/errors.ts"
import { keysAfter, unusedKeys } from "../../src/jobs/keys.ts"
import type { FrozenRun } from "../../src/plans/frozen.ts"
import { stepView } from "../../src/plans/step-view.ts"
import { draftUndo } from "../../src/plans/undo-run.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { stepRun } from "../unit/bot/views.ts"
import { contextOf, stepOf } from "./steps-fixture.ts"

type Seen = { method: string; url: string; key: string | null; authorization: string | null; body: string }
type Answer = (request: IncomingMessage, response: ServerResponse) => void

let server: Server
let base: string
let seen: Seen[]
/** One per request; the last one stays. */
let answers: Answer[]

const say =
  (status: number, body: unknown = {}, headers: Record<string, string> = {}): Answer =>
  (_request, response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body))
  }
const cut: Answer = (request) => void request.socket.destroy()
const silence: Answer = () => undefined

beforeAll(async () => {
  server = createServer((request, response) => void serve(request, response)).listen(0, "127.0.0.1")
  await once(server, "listening")
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/base`
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(() => {
  seen = []
  answers = [say(200, { version: "v1", nested: { "a/b": [1] } })]
})

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = ""
  for await (const part of request) body += String(part)
  const header = (name: string) => (request.headers[name] as string | undefined) ?? null
  seen.push({
    method: request.method ?? "",
    url: request.url ?? "",
    key: header("idempotency-key"),
    authorization: header("authorization"),
    body,
  })
  const answer = answers.length > 1 ? answers.shift() : answers[0]
  answer?.(request, response)
}

async function run(yaml: string, facts: Parameters<typeof contextOf>[0] = {}) {
  return runStep(await stepOf(yaml), await contextOf({ http: base, ...facts }))
}

const keyed =
  "{ id: a, http: { method: POST, path: /do, json: { x: 1 }, attempts: 4, every: 10ms }, effect: keyed, timeout: 1s, irreversible: no way back }"

describe("a request", () => {
  it("goes to the target, below its path, with parameters and secrets in their places", async () => {
    const result = await run(
      `- { id: a, http: { method: POST, path: "/say/$word", headers: { Authorization: "Bearer \${TARGET_KEY}" }, json: { word: $word } }, effect: none, expect: { status: 200, json: { /version: v1, "/nested/a~1b/0": 1 } } }`,
      { values: { word: "hi" }, workerEnvironment: { TARGET_KEY: "s3cr3t-key" } },
    )
    expect(result).toMatchObject({ outcome: "succeeded", failure: null })
    expect(seen).toEqual([
      { method: "POST", url: "/base/say/hi", key: null, authorization: "Bearer s3cr3t-key", body: '{"word":"hi"}' },
    ])
  })

  it("has numbers and truth in its JSON where the parameter's type says so, also in the line to paste", async () => {
    const yaml = `- { id: a, http: { method: POST, path: /, json: { n: $many, of: [$share], b: $hard, s: "$many of $word", big: $many } }, effect: none }`
    const values = { many: "5", share: "0.5", hard: "false", word: "w" }
    await run(yaml, { values })
    expect(seen[0]?.body).toBe('{"n":5,"of":[0.5],"b":false,"s":"5 of w","big":5}')
    const step = await stepOf(yaml)
    expect(stepView(step, values, base).paste).toContain(`--data-raw '${seen[0]?.body}'`)
    // One that JSON's readers would round stays a text.
    await run(yaml, { values: { ...values, many: "9007199254740993" } })
    expect(seen[1]?.body).toContain('"n":"9007199254740993"')
  })

  it("is answered with numbers that keep all their digits", async () => {
    const numbers = '{"id":9007199254740993,"of":[0.12345678901234567890,1e400],"n":1.50}'
    answers = [(_request, response) => void response.end(numbers)]
    const result = await run(
      `- { id: a, http: { path: / }, expect: { json: { /id: "9007199254740993", /n: 1.5 } }, capture: { id: /id, all: "" } }`,
    )
    expect(result.captures).toEqual({
      id: "9007199254740993",
      all: '{"id":9007199254740993,"of":[0.12345678901234567890,1e400],"n":1.5}',
    })
    const other = await run(`- { id: a, http: { path: / }, expect: { json: { /id: "9007199254740992" } } }`)
    expect(other.failure?.message).toBe("/id is 9007199254740993, expected 9007199254740992")
  })

  it("is not sent again by a worker that stood still meanwhile and has lost the run", async () => {
    answers = [say(500)]
    const stillOurs = () => Promise.reject(new LostLeaseError("lost"))
    await expect(run(`- ${keyed}`, { stillOurs })).rejects.toThrow(LostLeaseError)
    expect(seen).toHaveLength(1)
  })

  it("is tried again as often as the plan says, and tells how often", async () => {
    answers = [say(500, { error: "cold" }), say(503), say(200)]
    const result = await run("- { id: a, http: { path: /, attempts: 5, every: 10ms }, expect: { status: 200 } }")
    expect(result).toMatchObject({ outcome: "succeeded", attempts: 3 })
    expect(result.evidence.at(-1)).toMatch(/^3 attempts in /)
    answers = [say(500, { error: "cold" })]
    const failed = await run("- { id: a, http: { path: /, attempts: 3, every: 10ms }, expect: { status: 200 } }")
    expect(failed).toMatchObject({
      outcome: "failed",
      attempts: 3,
      failure: { code: "http_500", message: "answered 500, expected 200" },
    })
    expect(failed.evidence.join()).toContain("cold")
    expect(seen).toHaveLength(6)
  })

  it("names parts of the answer by JSON pointers: / is the key of no letters, and nothing is the whole", async () => {
    const ask = (json: string) => run(`- { id: a, http: { path: / }, expect: { json: ${json} } }`)
    answers = [say(200, { "": "mine", toString: 1 })]
    expect(await ask("{ /: mine, /toString: 1 }")).toMatchObject({ outcome: "succeeded" })
    expect(await ask("{ /: mine, /constructor: x }")).toMatchObject({
      failure: { message: "/constructor is null, expected x" },
    })
    // What is not there is like nothing.
    expect(await ask("{ /constructor: /./ }")).toMatchObject({
      failure: { message: "/constructor is null, expected to match /./" },
    })
    answers = [say(200, "ok")]
    expect(await ask('{ "": ok }')).toMatchObject({ outcome: "succeeded" })
    expect(await ask('{ "": other }')).toMatchObject({ failure: { message: "the answer is ok, expected other" } })
    expect(await ask("{ /: ok }")).toMatchObject({ outcome: "failed" })
  })

  it("looks for values in its regular expressions", async () => {
    answers = [say(200, { version: "v1.0" })]
    const yaml = "- { id: a, http: { path: / }, expect: { json: { /version: /^v$word$/ }, matches: '/:\"v$word\"/' } }"
    expect(await run(yaml, { values: { word: "1.0" } })).toMatchObject({ outcome: "succeeded" })
    expect(await run(yaml, { values: { word: "1x0" } })).toMatchObject({ outcome: "failed" })
  })

  it("follows no redirect", async () => {
    answers = [say(302, {}, { location: "http://127.0.0.1:1/" })]
    expect(await run("- { id: a, http: { path: / } }")).toMatchObject({
      outcome: "failed",
      failure: { code: "http_302" },
    })
    expect(seen).toHaveLength(1)
  })

  it.each(["none", "keyed", "blind"])(
    "of effect %s that would leave the target is not sent, and known not to be",
    async (effect) => {
      const more = effect === "none" ? "" : ", irreversible: it is a test"
      const yaml = `- { id: a, http: { method: POST, path: "/$word" }, effect: ${effect}${more} }`
      const result = await run(yaml, { values: { word: "/127.0.0.2:1/x" }, http: base.replace("/base", "") })
      expect(result).toMatchObject({ outcome: "failed", failure: { code: "not_sent" } })
      expect(result.failure?.message).toContain("requests go to the plan's own target only")
      expect(seen).toEqual([])
    },
  )

  it("that never got a connection is not in doubt, not a blind one either", async () => {
    const yaml = "- { id: a, http: { method: POST, path: / }, effect: blind, irreversible: it is a test }"
    const plain = await run(yaml, { http: base.replace("http:", "https:") })
    expect(plain).toMatchObject({ outcome: "failed", failure: { code: "unreachable" } })
    expect(seen).toEqual([])
  })

  it("that is answered with something else than JSON, or with more than is read, is told so", async () => {
    const yaml = "- { id: a, http: { path: / }, expect: { json: { /error: null, /version: v1 } } }"
    answers = [(_request, response) => void response.end("<html>sorry</html>")]
    expect((await run(yaml)).failure?.message).toBe("the answer is not JSON; /version is null, expected v1")
    answers = [say(200, { long: "y".repeat(300_000), version: "v1" })]
    expect((await run(yaml)).failure?.message).toContain("the answer is longer than the 256 KB that are read")
    answers = [(_request, response) => void response.end('\uFEFF{"version":"v1"}')]
    expect(await run(yaml)).toMatchObject({ outcome: "succeeded" })
    // What could not be read holds nothing, not even that there is no error.
    answers = [(_request, response) => void response.end("sorry")]
    expect(await run("- { id: a, http: { path: / }, expect: { json: { /error: null } } }")).toMatchObject({
      outcome: "failed",
    })
  })

  it("that is longer than is read holds no pattern that is about all of it, as that a log has no errors", async () => {
    const matches = (pattern: string) => `- { id: a, http: { path: / }, expect: { matches: '/${pattern}/' } }`
    const log = (end: string) => () => (answers = [(_request, response) => void response.end(end)])
    const long = log(`ready\n${"fine\n".repeat(60_000)}ERROR\n`)
    for (const pattern of ["^(?![^]*ERROR)", "[fine]\\s*$"]) {
      long()
      expect((await run(matches(pattern))).failure?.message).toBe(
        `the answer is longer than the 256 KB that are read, so whether all of it matches /${pattern}/ is not known`,
      )
      log("ready\nfine\n")()
      expect(await run(matches(pattern))).toMatchObject({ outcome: "succeeded" })
    }
    for (const pattern of ["^ready", "[$]?fine"]) {
      long()
      expect(await run(matches(pattern))).toMatchObject({ outcome: "succeeded" })
    }
  })

  it.each(["../admin", "x/../../admin", "..", "%2E%2e/admin", "..\\admin", ".\t./admin"])(
    "whose value %j leads to another path is not sent",
    async (word) => {
      const yaml = `- { id: a, http: { method: POST, path: "/items/$word" }, effect: blind, irreversible: it is a test }`
      const result = await run(yaml, { values: { word } })
      expect(result).toMatchObject({ outcome: "failed", failure: { code: "not_sent" } })
      expect(seen).toEqual([])
    },
  )

  it("may have dots in a value and in its query", async () => {
    await run(`- { id: a, http: { path: "/items/$word?of=../x" } }`, { values: { word: "v1..2" } })
    expect(seen[0]?.url).toBe("/base/items/v1..2?of=../x")
  })

  it("captures no null: a later step would be given the word", async () => {
    answers = [say(200, { id: null })]
    const result = await run("- { id: a, http: { path: / }, capture: { id: /id } }")
    expect(result).toMatchObject({
      outcome: "failed",
      captures: {},
      failure: { message: "there is no /id to capture" },
    })
  })

  it("has no user or password in its address, which could not be sent", async () => {
    await expect(
      run("- { id: a, http: { path: / } }", { http: base.replace("//", "//me:hush-hush@") }),
    ).rejects.toThrow("target.http has a user or password in it, which no request can carry")
  })

  it("shows no secret that the answer repeats", async () => {
    answers = [(request, response) => response.writeHead(401).end(`bad key ${request.headers["authorization"]}`)]
    const yaml = `- { id: a, http: { path: /, headers: { Authorization: "Bearer \${TARGET_KEY}" } } }`
    const result = await run(yaml, { workerEnvironment: { TARGET_KEY: "s3cr3t-key" } })
    expect(JSON.stringify(result)).toContain("bad key")
    expect(JSON.stringify(result)).not.toContain("s3cr3t-key")
  })

  it("or a program that needs longer than a look takes is not called broken for that", async () => {
    answers = [silence]
    const slow = await stepOf("- { id: a, http: { path: / }, timeout: 6s }")
    const program = await stepOf("- { id: b, command: [sleep, '20'], effect: none, timeout: 6s }")
    const brief = await stepOf("- { id: c, http: { path: / }, timeout: 1s }")
    const facts = await contextOf({ http: base })
    const seenOf = await Promise.all([slow, program, brief].map((step) => rehearseStep(step, facts)))
    const note = "no answer in the 5 s that a look takes; the run waits for 6 s"
    expect(seenOf).toMatchObject([
      { holds: null, outcome: "unknown", note },
      { holds: null, outcome: "unknown", note },
      { holds: false, note: "GET /: no answer in 1 s" },
    ])
  }, 15_000)

  it.each([
    ["none", "failed", "stopped"],
    ["blind", "unknown", "timeout"],
  ])("of effect %s that is on its way when Stop comes is %s", async (effect, outcome, code) => {
    const stop = new AbortController()
    answers = [() => stop.abort()]
    const more = effect === "none" ? "timeout: 60s" : "timeout: 1s, irreversible: it is a test"
    const yaml = `- { id: a, http: { method: POST, path: /, attempts: 5, every: 1s }, effect: ${effect}, ${more} }`
    const result = await run(yaml, { signal: stop.signal })
    expect(result).toMatchObject({ outcome, attempts: 1, failure: { code } })
  })

  it("that has an effect is not sent by the rehearsal", async () => {
    const rehearsal = await rehearseStep(await stepOf(`- ${keyed}`), await contextOf({ http: base }))
    expect(rehearsal.outcome).toBe("not_tried")
    expect(seen).toEqual([])
  })
})

describe("an undo", () => {
  it.each([
    ["took too long", say(200), ", under: 1ms", true],
    ["answered with other words", say(200, { version: "v2" }), ", json: { /version: v1 }", true],
    ["answered with another status of success", say(202), "", true],
    ["gave up in the middle", say(500), "", true],
    ["gave up in the middle, and then found it there", [say(500), say(409)], "", true],
    ["refused it twice", [say(400), say(409)], "", false],
    ["refused it", say(409), "", false],
    ["was too busy to look at it", say(503), "", false],
  ] as const)("takes back a request that failed because the server %s", async (_, answer, expected, isThere) => {
    const slow =
      (one: Answer): Answer =>
      (request, response) =>
        setTimeout(() => one(request, response), 20)
    answers = [answer].flat().map(slow)
    const step = await stepOf(
      `- { id: a, http: { method: POST, path: /make, json: {}, attempts: ${answers.length} }, effect: keyed, expect: { status: 200${expected} }, undo: { path: /unmake } }`,
    )
    const ended = await runStep(step, await contextOf({ http: base }))
    expect(ended.outcome).toBe("failed")
    const component = { id: "all", title: "All", risk: "low", rtoMs: null, steps: [step] }
    const frozen = { rollbackId: "r", parameters: {}, commits: {}, components: [component] } as unknown as FrozenRun
    const { components } = draftUndo(frozen, [stepRun("a", ended)])
    expect(components.flatMap(({ steps }) => steps.map(({ id }) => id))).toEqual(isThere ? ["undo-a"] : [])
  })
})

describe("the idempotency key", () => {
  it("is used again after an unknown outcome, and not after an answer", async () => {
    answers = [cut, cut, say(500), say(200)]
    expect(await run(`- ${keyed}`)).toMatchObject({ outcome: "succeeded", attempts: 4 })
    const keys = seen.map((request) => request.key)
    expect(keys.every((key) => key !== null && key.length >= 16)).toBe(true)
    expect(keys[1]).toBe(keys[0])
    expect(keys[2]).toBe(keys[0])
    expect(keys[3]).not.toBe(keys[0])
  })

  it.each([409, 425, 429, 503])(
    "stays the same after an answer %d to a repetition: the first may be at work",
    async (status) => {
      answers = [cut, say(status), say(200)]
      expect(await run(`- ${keyed}`)).toMatchObject({ outcome: "succeeded", attempts: 3 })
      expect(new Set(seen.map((request) => request.key)).size).toBe(1)
    },
  )

  it.each([408, 502, 504])("stays the same after %d, by which nobody knows what became of it", async (status) => {
    answers = [say(status)]
    expect(await run(`- ${keyed}`)).toMatchObject({ outcome: "unknown", attempts: 4 })
    expect(new Set(seen.map((request) => request.key)).size).toBe(1)
    seen = []
    expect(await run(`- ${keyed.replace("effect: keyed", "effect: blind")}`)).toMatchObject({ outcome: "unknown" })
    expect(seen).toHaveLength(1)
  })

  it("is not another because of an answer that no server stores, and Retry goes on with the one in doubt", async () => {
    answers = [say(503), cut, cut, cut]
    expect(await run(`- ${keyed}`)).toMatchObject({ outcome: "unknown" })
    expect(new Set(seen.map((request) => request.key)).size).toBe(1)
    seen = []
    // What answered for good has a name of its own; what followed is in doubt, and comes again under its name.
    answers = [say(500), cut]
    const rollbackId = "00000000-0000-4000-8000-000000000002"
    const doubtful = await run(`- ${keyed}`, { rollbackId })
    expect(doubtful.outcome).toBe("unknown")
    const last = seen.at(-1)?.key
    expect(last).not.toBe(seen[0]?.key)
    seen = []
    answers = [say(200)]
    await run(`- ${keyed}`, { rollbackId, attempt: 2, keyNumber: 1 + keysAfter(unusedKeys, doubtful).spent })
    expect(seen.map((request) => request.key)).toEqual([last])
  })

  it("is the same for the worker that takes over, and another for another rollback or attempt", async () => {
    const rollbackId = "00000000-0000-4000-8000-000000000001"
    for (const facts of [{ rollbackId }, { rollbackId }, { rollbackId, attempt: 2 }, {}]) await run(`- ${keyed}`, facts)
    const [first, takeover, retried, other] = seen.map((request) => request.key)
    expect(takeover).toBe(first)
    expect(new Set([first, retried, other]).size).toBe(3)
  })

  it.each([
    [say(200, { ok: false }), 1],
    [say(302), 1],
    [say(500, { error: "cold" }), 1],
    [say(400), 3],
    [say(503), 3],
  ])(
    "is not there for a blind request, which is not sent again after an answer by which it may be done",
    async (answer, sent) => {
      answers = [answer]
      const yaml =
        "- { id: a, http: { method: POST, path: /, attempts: 3, every: 10ms }, effect: blind, irreversible: it is a test, expect: { status: 200, json: { /ok: true } } }"
      expect(await run(yaml)).toMatchObject({ outcome: "failed", attempts: sent })
      expect(seen).toHaveLength(sent)
    },
  )

  it("is not there for a blind request, which is never repeated when its outcome is unknown", async () => {
    const blind = keyed.replace("effect: keyed", "effect: blind")
    answers = [cut]
    expect(await run(`- ${blind}`)).toMatchObject({ outcome: "unknown", attempts: 1 })
    answers = [silence]
    expect(await run(`- ${blind}`)).toMatchObject({ outcome: "unknown", attempts: 1, failure: { code: "timeout" } })
    expect(seen.map((request) => request.key)).toEqual([null, null])
  })
})
