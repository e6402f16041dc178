import { z } from "zod"
import { planSchema } from "./schema.ts"

/** The JSON schema of a plan as it is written, for editors. */
export function createPlanJsonSchema(): Record<string, unknown> {
  const { $schema, ...rest } = z.toJSONSchema(planSchema, { io: "input", unrepresentable: "any" })
  return { $schema, ...rest }
}

/** What `plans/schema.json` holds, byte for byte. */
export function formatPlanJsonSchema(): string {
  return `${JSON.stringify(createPlanJsonSchema(), null, 2)}\n`
}
