import { DatabaseError } from "pg"
import { expect, it } from "vitest"
import { isPassing, neverSent, StepbackError } from "../../src/errors.ts"

it("a broken link is known by its code or by the driver's words, not by a word in somebody's text", () => {
  const said = (message: string, code: string) =>
    Object.assign(new DatabaseError(message, 1, "error"), { code, severity: "ERROR" })
  expect(isPassing(new Error("Connection terminated unexpectedly"))).toBe(true)
  expect(isPassing(new Error("socket hang up"))).toBe(true)
  expect(isPassing(Object.assign(new Error("read"), { code: "ECONNRESET" }))).toBe(true)
  expect(isPassing(said("terminating connection due to administrator command", "57P01"))).toBe(true)
  expect(isPassing(said("terminating connection due to idle-session timeout", "57P05"))).toBe(true)
  expect(isPassing(said('relation "websocket_events" does not exist', "42P01"))).toBe(false)
  expect(isPassing(said('duplicate key value violates unique constraint "socket closed"', "23505"))).toBe(false)
  expect(isPassing(new StepbackError("unknown_ref", "socket hang up is no commit, tag or branch"))).toBe(false)
})

it.each([
  [{ code: "ENETUNREACH", syscall: "connect" }, true],
  [{ code: "ETIMEDOUT", syscall: "connect" }, true],
  [{ code: "CERT_HAS_EXPIRED" }, true],
  [{ code: "DEPTH_ZERO_SELF_SIGNED_CERT" }, true],
  [{ code: "ERR_TLS_CERT_ALTNAME_INVALID" }, true],
  [{ code: "ECONNRESET", syscall: "read" }, false],
  [{ code: "UND_ERR_SOCKET" }, false],
  [{ code: "ETIMEDOUT", syscall: "read" }, false],
])("whether a request was sent by its error: %j", (facts, never) => {
  const error = Object.assign(new Error("-"), facts)
  expect(neverSent(error)).toBe(never)
  const refused = Object.assign(new Error("-"), { code: "ECONNREFUSED", syscall: "connect" })
  expect(neverSent(new AggregateError([refused, error]))).toBe(never)
})
