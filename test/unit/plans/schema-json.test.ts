import { readFile } from "node:fs/promises"
import { expect, test } from "vitest"
import { createPlanJsonSchema, formatPlanJsonSchema } from "../../../src/plans/schema-json.ts"

test("plans/schema.json is what the schema makes today", async () => {
  const file = await readFile(new URL("../../../plans/schema.json", import.meta.url), "utf8")
  expect(file, "run scripts/plan-schema.ts").toBe(formatPlanJsonSchema())
})

test("the JSON schema speaks of plans as they are written", () => {
  expect(createPlanJsonSchema()).toMatchObject({
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Stepback plan",
    additionalProperties: false,
    required: ["version", "environment", "title", "target", "approve", "components"],
    properties: { rto: { type: "string", pattern: expect.any(String) } },
  })
})
