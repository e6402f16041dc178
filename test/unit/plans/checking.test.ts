import { expect, test } from "vitest"
import { formatProblem } from "../../../src/plans/format-problem.ts"
import { checkPlanSource } from "../../../src/plans/load.ts"
import { change, CHECKOUT, VALID } from "./fixtures.ts"
import { INVALID } from "./invalid-plans.ts"

test.each(INVALID)("%s", async (_, source, place, message) => {
  const { plan, problems } = await checkPlanSource("plans/shop.yaml", source)
  expect(plan).toBeNull()
  const said = problems.map(formatProblem)
  expect(said.filter((line) => line.startsWith(`plans/shop.yaml:${place}: `) && line.includes(message))).toHaveLength(1)
})

test("one round tells what the schema refuses and what the rest of the plan gets wrong", async () => {
  const source = CHECKOUT.replace("    risk: low", "    risk: lwo")
    .replace("version: 1", "version: 1\ncolour: red")
    .replace("values: { version: $good }", "values: { version: $gud }")
    .replace("timeout: 3m", "timeuot: 3m")
    .replace("from: answers }", "from: nowhere }")
  const { problems } = await checkPlanSource("shop.yaml", source)
  expect(problems.map(({ line, message }) => [line, message])).toEqual([
    [2, expect.stringContaining("colour")],
    [29, expect.stringContaining("lwo")],
    [38, expect.stringContaining('called "gud"')],
    [60, expect.stringContaining("timeuot")],
    [72, expect.stringContaining("nowhere")],
  ])
})

test("a step that is wrong is not said to be no evidence of a criterion too", async () => {
  const { problems } = await checkPlanSource("shop.yaml", change("under: 800ms", "under: 800"))
  expect(problems.map(({ line, message }) => [line, message])).toEqual([[44, expect.stringContaining("a duration")]])
})

test("an address of a database is not repeated in a message", async () => {
  const source = change("${SHOP_DB}", "postgres://me:secret@db/shop").replace("${SHOP_URL}", "ftp://me:secret@host")
  const { problems } = await checkPlanSource("shop.yaml", source)
  expect(problems).toHaveLength(2)
  expect(JSON.stringify(problems)).not.toContain("secret")
})

test("a pager's key or address is not repeated in a message", async () => {
  const hook = '  hook: { kind: pagerduty, key: R0SECRETKEY, secret: "hush", url: "https://me:hush@host" }'
  const { problems } = await checkPlanSource("shop.yaml", change("  mention: [S0OPS]", hook))
  expect(problems.length).toBeGreaterThan(1)
  expect(JSON.stringify(problems)).not.toMatch(/SECRETKEY|hush/)
})

test("the fixture is valid, and its defaults are filled in", async () => {
  const { plan, problems } = await checkPlanSource("shop.yaml", VALID)
  expect(problems).toEqual([])
  expect(plan?.sha256).toMatch(/^[0-9a-f]{64}$/)
  expect(plan?.plan).toMatchObject({
    notes: null,
    approve: { expiresMs: 3_600_000 },
    rtoMs: 900_000,
    escalate: { acknowledgeWithinMs: 300_000, hook: null },
    analysis: { remindMs: 86_400_000 },
    archive: { keepMs: 2_592_000_000 },
    success: [{ from: ["version-is-good"] }, { from: ["answers", "deploy"] }],
  })
  const [config, service] = plan?.plan.components ?? []
  expect(service).toMatchObject({ title: "Service", rtoMs: null, optional: false, request: null })
  expect(config?.steps[0]).toMatchObject({ title: "Set version", timeoutMs: 30_000, onFailure: "stop", retries: 0 })
  expect(config?.steps[1]).toMatchObject({ expect: { rows: { kind: "range", min: 1, max: 5 } }, effect: "none" })
  expect(service?.steps[0]).toMatchObject({ timeoutMs: 300_000, expect: { exit: 0, stdout: null }, irreversible: null })
  expect(service?.steps[1]).toMatchObject({ everyMs: 2000, expect: { status: [200], underMs: 800 } })
})

test("the example of the plan language is valid", async () => {
  const { plan, problems } = await checkPlanSource("checkout.yaml", CHECKOUT)
  expect(problems).toEqual([])
  expect(plan?.plan.watch).toEqual({
    forMs: 600_000,
    everyMs: 30_000,
    steps: ["answers"],
    slowerThan: 1.5,
    failures: 2,
  })
  expect(plan?.plan.components[1]?.steps[0]).toMatchObject({
    kind: "purge",
    maxShare: 0.2,
    batch: 10_000,
    expectRows: { kind: "rehearsed", tolerance: 0.02 },
  })
})

test("every other shape of the plan language is valid", async () => {
  const steps = `      - id: put-back
        restore: { table: config, keys: [a], after: after }
      - id: by-hand
        manual: "Look at $5 prices"
        on_failure: ask
      - id: build
        workflow: { repo: acme/shop, file: deploy.yml, ref: $good, inputs: { to: $good }, token: "\${GH_TOKEN}" }
        undo: { to: "2" }
      - id: logs
        command: [./logs.sh]
        effect: none
        files: [logs.sql]
        expect: { exit: 0, stdout: /^no errors/ }
        capture: { lines: "/([0-9]+) lines/" }
      - id: deploy
`
  const source = `${change("      - id: deploy\n", steps).replace(
    "  mention: [S0OPS]\n",
    '  hook: { kind: webhook, url: "${HOOK}", secret: "${HOOK_SECRET}" }\n',
  )}redact: [email]
baseline: { file: a.json, max_age: 30d, tables: [{ table: config, key: [key] }] }
archive: { keep: 90d }
`
  const { problems } = await checkPlanSource("shop.yaml", source)
  expect(problems).toEqual([])
})

test("components run after what they need", async () => {
  const source = change("    title: Configuration\n", "    needs: [service]\n").replace("    needs: [config]\n", "")
  const { plan, problems } = await checkPlanSource("shop.yaml", source.replace("{ sku: $seen }", "{ sku: test }"))
  expect(problems).toEqual([])
  expect(plan?.plan.components.map(({ id }) => id)).toEqual(["service", "config"])
})

test("a step that acts outside and has no undo is irreversible, said or not", async () => {
  const source = change("        undo: [./deploy.sh, $deployed]\n        deployed: [./deployed.sh]\n", "")
  const { plan } = await checkPlanSource("shop.yaml", source)
  expect(plan?.plan.components[1]?.steps[0]?.irreversible).toBe("the plan gives no undo for it")
})

test("an upsert passes when the plan says why it cannot be taken back", async () => {
  const upsert =
    "sql: insert into config values ('version', $1) on conflict (key) do update set value = $1\n        irreversible: because"
  const { plan, problems } = await checkPlanSource(
    "shop.yaml",
    change("sql: update config set value = $1 where key = 'version'", upsert),
  )
  expect(problems).toEqual([])
  expect(plan?.plan.components[0]?.steps[0]).toMatchObject({ irreversible: "because", facts: { reversible: false } })
})

test("a component that always runs and needs an optional one is warned of", async () => {
  const source = change("    title: Configuration\n", "    optional: true\n").replace("{ sku: $seen }", "{ sku: test }")
  const { problems, warnings } = await checkPlanSource("shop.yaml", source)
  expect(problems).toEqual([])
  expect(warnings).toEqual([
    expect.objectContaining({
      line: 33,
      message:
        '"service" always runs and needs "config", which is optional: every request without --with config is refused',
    }),
  ])
})

test("the only component under a wrong id is not said to be missing too", async () => {
  const source = `version: 1
environment: shop
title: Shop back
target: { postgres: "\${SHOP_DB}" }
approve: { low: { count: 1, from: anyone }, medium: { count: 1, from: anyone }, high: { count: 1, from: anyone } }
components:
  the shop: { steps: [{ id: look, check: select 1 as one }] }
`
  const { problems } = await checkPlanSource("shop.yaml", source)
  expect(problems.map(({ message }) => message)).toEqual([expect.stringContaining('found "the shop"')])
})
