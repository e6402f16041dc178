import { expect, test } from "vitest"
import { checkPlanSource } from "../../../src/plans/load.ts"
import { namesOf } from "../../../src/plans/names.ts"
import { resolveParameters, selectComponents } from "../../../src/plans/select.ts"
import { change } from "./fixtures.ts"

async function resolve(given: string) {
  const { plan, problems } = await checkPlanSource("shop.yaml", change("2026-10-01T09:00:00Z", given))
  if (plan === null) return problems[0]?.message
  const resolved = resolveParameters(plan.plan, {})
  return "refusal" in resolved ? resolved.refusal.reason : resolved.parameters["since"]
}

// A column of type timestamp ignores the offset of what it is compared with.
test.each([
  ["2026-10-01T09:30:00Z", "2026-10-01T09:30:00Z"],
  ["2026-10-01 09:30:00+00:00", "2026-10-01 09:30:00+00:00"],
  ["2026-10-01T09:30:00+02:00", "2026-10-01T07:30:00Z"],
  ["2026-10-01T09:30:00+02", "2026-10-01T07:30:00Z"],
  ["2026-01-01 00:10-0230", "2026-01-01T02:40:00Z"],
  ["2026-01-01T00:10:00.123456+05:30", "2025-12-31T18:40:00.123456Z"],
])("the moment %s is bound as %s", async (given, bound) => {
  expect(await resolve(given)).toBe(bound)
})

test.each(["2026-02-30T09:00:00Z", "2026-10-01T25:00:00Z", "2026-10-01T09:00:00"])(
  "%s, given with a request, is no moment",
  async (given) => {
    const { plan } = await checkPlanSource("shop.yaml", change("environment: shop", "environment: shop"))
    if (plan === null) throw new Error("the fixture is valid")
    expect(resolveParameters(plan.plan, { since: given })).toMatchObject({
      refusal: { reason: "bad_parameter", given },
    })
  },
)

// What `plan check` lets through is taken with a request, and the other way round.
test.each([
  ["string", '""', ""],
  ["string", "x".repeat(500), "x".repeat(500)],
  ["string", "x".repeat(501), null],
  ["git_ref", '"feature+x#1"', "feature+x#1"],
  ["git_ref", '"main..next"', null],
  ["number", '"1e5"', "1e5"],
  ["number", "1e-7", "1e-7"],
  ["integer", '"1e5"', null],
])("a %s is the same as a default and with a request (%#)", async (type, written, value) => {
  const { plan, problems } = await checkPlanSource(
    "shop.yaml",
    change("params:", `params:\n  p: { type: ${type}, default: ${written} }`),
  )
  const { plan: bare } = await checkPlanSource("shop.yaml", change("params:", `params:\n  p: { type: ${type} }`))
  if (bare === null) throw new Error("the fixture is valid")
  const given = resolveParameters(bare.plan, { p: written.replaceAll('"', "") })
  if (value === null) {
    expect(problems).toMatchObject([{ line: 10, message: expect.stringMatching(/^expected /) }])
    expect(given).toMatchObject({ refusal: { reason: "bad_parameter", name: "p" } })
    return
  }
  expect(problems).toEqual([])
  for (const resolved of [given, plan && resolveParameters(plan.plan, {})])
    expect(resolved).toMatchObject({ parameters: { p: value } })
})

test("a component is not run without the one that captures what it uses, whether it says so or not", async () => {
  const { plan } = await checkPlanSource("shop.yaml", change("    needs: [config]\n", ""))
  if (plan === null) throw new Error("the fixture is valid")
  const select = (...only: string[]) => selectComponents(plan.plan, { only, with: [], parameters: {} })
  expect(select("service")).toEqual({ refusal: { reason: "component_needs", component: "service", needs: "config" } })
  expect(select("config")).toMatchObject({ components: [{ id: "config" }] })
  expect(select("service", "config")).toMatchObject({ components: [{ id: "config" }, { id: "service" }] })
})

test("what a command's `deployed` names is needed as what the command itself names", async () => {
  const { plan } = await checkPlanSource(
    "shop.yaml",
    change("deployed: [./deployed.sh]", "deployed: [./deployed.sh, $seen]"),
  )
  const [deploy] = plan?.plan.components[1]?.steps ?? []
  expect(deploy && namesOf(deploy)).toEqual(["good", "seen"])
})

test("a parameter without a default must be given, and the refusal does not invent what was", async () => {
  const { plan } = await checkPlanSource("shop.yaml", change("params:", "params:\n  ticket: { type: uuid }"))
  if (plan === null) throw new Error("the fixture is valid")
  expect(resolveParameters(plan.plan, {})).toEqual({
    refusal: { reason: "bad_parameter", name: "ticket", given: null, expected: "a uuid" },
  })
})
