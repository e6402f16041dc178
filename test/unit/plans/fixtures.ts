/** A plan that uses what runs today, each thing once; the tables of tests break it in one place at a time. */
export const VALID = `version: 1
environment: shop
title: Shop 2 back to 1
channel: C0SHOP
target:
  postgres: \${SHOP_DB}
  expect: { database: shop }
  http: \${SHOP_URL}
params:
  good: { type: string, default: "1.0" }
  since: { type: timestamp, default: 2026-10-01T09:00:00Z }
request: anyone
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: [S0OPS] }
  high: { count: 2, from: [U0ANN, U0BOB] }
rto: 15m
components:
  config:
    title: Configuration
    risk: low
    steps:
      - id: set-version
        sql: update config set value = $1 where key = 'version'
        params: [good]
        expect: { rows: 1 }
      - id: version-is-good
        check: select value from config where key = 'version'
        expect: { rows: 1..5, values: { value: $good } }
        capture: { seen: value }
  service:
    risk: medium
    needs: [config]
    steps:
      - id: deploy
        command: [./deploy.sh, $good]
        effect: keyed
        env: [DEPLOY_KEY]
        undo: [./deploy.sh, $deployed]
        deployed: [./deployed.sh]
      - id: answers
        http: { method: POST, path: /price, json: { sku: $seen }, attempts: 5, every: 2s }
        effect: none
        expect: { status: 200, json: { /version: $good }, under: 800ms }
escalate:
  channel: C0OPS
  mention: [S0OPS]
success:
  - { text: Version is good, from: version-is-good }
  - { text: It answers, from: [answers, deploy] }
`

/** The example of the plan language, whole. */
export const CHECKOUT = `version: 1
environment: checkout                 # /rollback checkout
title: Pricing engine 7.4 back to 7.3
notes: Coupons were broken before 7.4 too; going back does not mend them.
channel: C0CHECKOUT                   # requests are accepted here only; omit for any channel the bot is in
target:
  postgres: \${CHECKOUT_DATABASE_URL}  # \${NAME} is read from the worker's environment, never stored, never shown
  expect: { database: checkout }      # optional: wrong database, wrong day
  http: \${CHECKOUT_URL}
params:
  good: { type: string, default: "7.3" }
  bad:  { type: string, default: "7.4" }
  since: { type: timestamp, default: 2026-10-01T09:00:00Z }
request: anyone                       # or a list of U… and S… ids
approve:                              # by risk
  low:    { count: 1, from: anyone }
  medium: { count: 1, from: [S0ONCALL] }
  high:   { count: 2, from: [S0ONCALL, U0LEAD] }   # two different people, each of them in the list or in a group of it
  expires: 60m
rto: 15m
redact: [customer_email]              # columns whose values are never shown, stored in analyses or exported
baseline:
  file: baselines/checkout.json
  tables: [{ table: pricing_config, key: [name], ignore: [updated_at] }]
components:                           # run in this order; \`needs\` says more
  config:
    title: Pricing configuration
    risk: low
    rto: 2m
    steps:
      - id: engine-version
        sql: update pricing_config set value = to_jsonb($1::text) where name = 'engine'
        params: [good]
        expect: { rows: 1 }
      - id: engine-is-good
        check: "select value #>> '{}' as version from pricing_config where name = 'engine'"
        expect: { rows: 1, values: { version: $good } }
  orders:
    title: Orders priced by the bad engine
    risk: medium
    optional: true                    # runs only when named: /rollback checkout --with orders
    rto: 10m
    steps:
      - id: remove-quotes
        purge: { table: quotes, where: "engine = $1 and created_at > $2", cascade: [quote_lines], at_most: 5000 }
        params: [bad, since]
        expect: { rows: rehearsed, tolerance: 2% }
  service:
    title: Pricing service
    risk: low
    rto: 5m
    steps:
      - id: redeploy
        command: [./deploy.sh, pricing, $good]
        cwd: \${CHECKOUT_REPO}
        effect: keyed
        deployed: [./deployed.sh, pricing]          # what runs now; read before and after, it is what undo goes back to
        undo: [./deploy.sh, pricing, $deployed]
        timeout: 3m
      - id: answers
        http: { method: POST, path: /price, json: { sku: test }, attempts: 5, every: 2s }
        effect: none
        expect: { status: 200, json: { /engine: $good }, under: 800ms }
watch: { for: 10m, every: 30s, steps: [answers], slower_than: 1.5x, failures: 2 }
escalate:
  channel: C0ONCALL
  mention: [S0ONCALL]
  acknowledge_within: 5m
success:
  - { text: Configuration names the good engine, from: engine-is-good }
  - { text: Service operational, from: answers }
analysis: { remind: 24h }
`

/** The plan with one place changed; a place that is not there is a mistake of the test. */
export function change(find: string, replacement: string): string {
  if (!VALID.includes(find)) throw new Error(`the fixture has no ${find}`)
  return VALID.replace(find, () => replacement)
}
