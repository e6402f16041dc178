import { expect, it } from "vitest"
import { allowedRows } from "../../src/steps/step.ts"

it("a tolerance in whole per cents leaves room for as many rows as it says", () => {
  for (let percent = 1; percent <= 100; percent++)
    for (const counted of [0, 1, 99, 100, 200, 1_500, 123_456_700]) {
      const slack = Math.floor((counted * percent) / 100)
      const expected = { kind: "rehearsed", tolerance: percent / 100 } as const
      expect(allowedRows(expected, counted)).toEqual({ min: Math.max(0, counted - slack), max: counted + slack })
    }
})
