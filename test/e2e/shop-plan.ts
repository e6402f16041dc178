/** A plan of one component that sets the engine, does what is given, and then asks a person. */
export const shopPlan = (between = ""): string => `version: 1
environment: shop
title: The shop back to 1
target: { postgres: "\${SHOP_DATABASE_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
components:
  data:
    title: Data
    risk: low
    steps:
      - { id: engine, title: Set the engine, sql: "update settings set value = '1' where name = 'engine'", expect: { rows: 1 } }
${between}      - { id: flag, title: Turn the flag off, manual: Turn it off }
`
