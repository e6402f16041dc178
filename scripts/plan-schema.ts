import { writeFileSync } from "node:fs"
import { formatPlanJsonSchema } from "../src/plans/schema-json.ts"

writeFileSync(new URL("../plans/schema.json", import.meta.url), formatPlanJsonSchema())
