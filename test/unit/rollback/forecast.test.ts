import { expect, test } from "vitest"
import { forecastOf } from "../../../src/rollback/forecast.ts"

const tens = [90, 10, 80, 20, 70, 30, 60, 40, 50, 1000]

test("median and 90 % are times that a run really took, whatever the order", () => {
  expect(forecastOf(tens, new Map([["a", [...tens, 2000]]]))).toEqual({
    runs: 10,
    medianMs: 50,
    p90Ms: 90,
    fastestMs: 10,
    slowestMs: 1000,
    components: [{ id: "a", runs: 11, medianMs: 60, p90Ms: 1000 }],
  })
  expect(forecastOf([7], new Map())).toMatchObject({ runs: 1, medianMs: 7, p90Ms: 7, components: [] })
})

test("nothing that ran is no forecast; parts that ran are one", () => {
  expect(forecastOf([], new Map())).toBeNull()
  expect(forecastOf([], new Map([["a", []]]))).toBeNull()
  expect(forecastOf([], new Map([["a", [5]]]))).toMatchObject({ runs: 0, components: [{ id: "a", medianMs: 5 }] })
})
