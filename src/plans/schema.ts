import { z } from "zod"
import { stepSchema } from "./step-schema.ts"
import * as v from "./scalars.ts"

const rule = v.strict({ count: v.whole(1, 5), from: v.audience })

const component = v.strict({
  title: v.text().optional(),
  risk: v.choice(["low", "medium", "high"]).optional().meta({ description: "high, when it is not said." }),
  rto: v.duration().optional().meta({ description: "How long this component may take." }),
  optional: v.flag.optional().meta({ description: "Runs only when named with --with." }),
  parallel: v.flag.optional().meta({ description: "Runs its steps side by side." }),
  needs: v.listOf(v.identifier, "component ids").optional(),
  request: v.audience.optional().meta({ description: "Who may request it, instead of the plan's rule." }),
  steps: v.someOf(stepSchema, "steps"),
})

const DEFAULT = "expected text, a number, or true or false"
const param = v.strict({
  type: v.choice(["string", "integer", "number", "boolean", "timestamp", "uuid", "git_ref"]),
  default: z.union([z.string(), z.number(), z.boolean()], { error: DEFAULT }).optional(),
  description: v.text().optional(),
})

const baseline = v.strict({
  file: v.text("a file name").optional(),
  max_age: v.duration().optional(),
  tables: v.someOf(
    v.strict({
      table: v.table,
      key: v.someOf(v.column, "column names"),
      ignore: v.listOf(v.column, "column names").optional(),
    }),
    "tables",
  ),
})

const watch = v.strict({
  for: v.duration(),
  every: v.duration().optional(),
  steps: v.someOf(v.identifier, "step ids"),
  slower_than: v.factor.optional(),
  failures: v.whole(1, 100).optional(),
})

const hook = v.strict({
  kind: v.choice(["pagerduty", "webhook"]),
  url: v
    .secretly(/^https?:\/\/\S+$|^\$\{\w+\}$/, "write an address with https://, or ${NAME}")
    .optional()
    .meta({ description: "Of a webhook; of PagerDuty only where it is not the usual one (EU)." }),
  key: v
    .secretly(/^\$\{\w+\}$/, "write the key as ${NAME}, never the key itself")
    .optional()
    .meta({ description: "PagerDuty's routing key." }),
  secret: v
    .secretly(/^\$\{\w+\}$/, "write the secret as ${NAME}, never the secret itself")
    .optional()
    .meta({ description: "What a webhook's requests are signed with." }),
})

const escalate = v.strict({
  channel: v.channel.optional(),
  mention: v.members.optional(),
  acknowledge_within: v.duration().optional(),
  hook: hook.optional().meta({ description: "A pager that is called beside Slack." }),
})

const stepIds = z
  .union([v.identifier, v.someOf(v.identifier, "step ids")], {
    error: "expected a step id or a list of them",
  })
  .transform((written) => (Array.isArray(written) ? written : [written]))

/** The YAML of a plan as people write it. Scalars come out in the program's units; `normalise.ts` does the rest. */
export const planSchema = v
  .strict({
    version: z.literal(1, { error: "expected 1" }).meta({ description: "The version of the plan language." }),
    environment: v
      .matching(/^[a-z0-9_-]{1,40}$/, "a name of lower-case letters, digits, hyphens and underscores, at most 40")
      .meta({ description: "What is typed after /rollback." }),
    title: v.text().meta({ description: "What the rollback does, in a few words." }),
    notes: v.text().optional().meta({ description: "What people should know; shown on the card." }),
    channel: v.channel.optional().meta({ description: "Requests are accepted here only." }),
    target: v
      .strict({
        postgres: v
          .text("${NAME}")
          .optional()
          .meta({ description: "A variable of the worker's environment: ${NAME}." }),
        expect: v.strict({ database: v.text("the name of a database").optional() }).optional(),
        http: v.text("an address or ${NAME}").optional().meta({ description: "The base of all http steps." }),
      })
      .meta({ description: "What is rolled back." }),
    params: v
      .mappingOf(v.name, param, "names to parameters")
      .optional()
      .meta({ description: "Values that may be set for one run." }),
    request: v.audience.optional().meta({ description: "Who may request; anyone when missing." }),
    approve: v
      .strict({ low: rule, medium: rule, high: rule, expires: v.duration().optional() })
      .meta({ description: "How many people approve, and who, by risk." }),
    rto: v.duration().optional().meta({ description: "How long the whole may take." }),
    redact: v
      .listOf(v.column, "column names")
      .optional()
      .meta({ description: "Columns whose values are never shown." }),
    baseline: baseline.optional().meta({ description: "Tables to keep a snapshot of." }),
    components: v
      .mappingOf(v.identifier, component, "component ids to components")
      .meta({ description: "What is rolled back, in this order." }),
    watch: watch.optional().meta({ description: "What is probed afterwards, and for how long." }),
    escalate: escalate.optional().meta({ description: "Whom trouble is told, and where." }),
    success: v
      .listOf(v.strict({ text: v.text(), from: stepIds }), "criteria")
      .optional()
      .meta({ description: "Criteria, each with the steps that are its evidence." }),
    analysis: v.strict({ remind: v.duration().optional() }).optional(),
    archive: v.strict({ keep: v.duration(3650 * 86_400_000).optional() }).optional(),
  })
  .meta({ title: "Stepback plan", description: "How one environment goes back to a known-good state." })

export type WrittenPlan = z.output<typeof planSchema>
export type WrittenComponent = WrittenPlan["components"][string]
