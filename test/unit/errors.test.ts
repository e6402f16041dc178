import { DatabaseError } from "pg"
import { expect, it } from "vitest"
import { isPassing, StepbackError } from "../../src/errors.ts"

it("a broken link is known by its code or by the driver's words, not by a word in somebody's text", () => {
  const said = (message: string, code: string) =>
    Object.assign(new DatabaseError(message, 1, "error"), { code, severity: "ERROR" })
  expect(isPassing(new Error("Connection terminated unexpectedly"))).toBe(true)
  expect(isPassing(new Error("socket hang up"))).toBe(true)
  expect(isPassing(Object.assign(new Error("read"), { code: "ECONNRESET" }))).toBe(true)
  expect(isPassing(said("terminating connection due to administrator command", "57P01"))).toBe(true)
  expect(isPassing(said('relation "websocket_events" does not exist', "42P01"))).toBe(false)
  expect(isPassing(said('duplicate key value violates unique constraint "socket closed"', "23505"))).toBe(false)
  expect(isPassing(new StepbackError("unknown_ref", "socket hang up is no commit, tag or branch"))).toBe(false)
})
