/** The family of surprises. Expected outcomes are return values; these are thrown. */
export class StepbackError extends Error {
  readonly code: string
  readonly retryable: boolean

  constructor(code: string, message: string, options: { retryable?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = "StepbackError"
    this.code = code
    this.retryable = options.retryable ?? false
  }
}

/** A younger worker has taken the rollback over: stop without a word. */
export class LostLeaseError extends StepbackError {
  /** Of the fence that said so. */
  readonly fence: number | null
  constructor(rollbackId: string, fence: number | null = null) {
    super("lost_lease", `rollback ${rollbackId} belongs to another worker`)
    this.fence = fence
  }
}

/** The error's code: an SQLSTATE, a system error's name, or our own. */
export function errorCode(error: unknown): string {
  if (error !== null && typeof error === "object" && "code" in error && typeof error.code === "string")
    return error.code
  return "unknown"
}

export function errorMessage(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return errorMessage(error.errors[0])
  return error instanceof Error ? error.message : String(error)
}

const connectionCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "57P01", // admin shutdown
  "57P02", // crash shutdown
  "57P03", // cannot connect now
  "57P05", // idle session timeout: it had ended the link before anything was asked
  "25P03", // idle in transaction timeout
  "40001", // serialization failure
  "40P01", // deadlock
  "53300", // too many connections
])

/**
 * Whether the same thing may work a moment later, because the link or the server was at fault and not the request.
 * After it, what was sent may or may not have happened: ask the ledger.
 */
export function isPassing(error: unknown): boolean {
  const code = errorCode(error)
  if (code.startsWith("08") || connectionCodes.has(code)) return true
  if (error instanceof AggregateError) return error.errors.some(isPassing)
  // What the server or we ourselves say may quote any name: only a driver's own words are read.
  if (error instanceof StepbackError || isFromServer(error)) return false
  return /connection terminated|not queryable|client was closed|timeout exceeded when trying to connect|query read timeout|socket (is |was |has been )?(hang up|disconnected|closed|ended)/i.test(
    errorMessage(error),
  )
}

/** There was nobody to speak to, or who answered could not show that it is the one that was called. */
const noConnection =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|UND_ERR_CONNECT_TIMEOUT|(DEPTH_ZERO_)?SELF_SIGNED_CERT.*|UNABLE_TO_.*|CERT_.*|ERR_TLS_CERT_ALTNAME_INVALID|ERR_SSL_WRONG_VERSION_NUMBER)$/

/** Whether the error of a request, as the network gave it, says that nothing of it was sent. */
export function neverSent(error: unknown): boolean {
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.every(neverSent)
  const connecting = error instanceof Error && "syscall" in error && error.syscall === "connect"
  return connecting || noConnection.test(errorCode(error))
}

/** Whether a database was not connected to: what was asked of it has certainly not happened. */
export function isNotConnected(error: unknown): boolean {
  // It starts or ends, or has too many already.
  const refused = ["57P03", "53300"].includes(errorCode(error))
  return refused || neverSent(error) || /timeout exceeded when trying to connect/i.test(errorMessage(error))
}

/** Whether Postgres said it: an answer, not a broken link. */
export function isFromServer(error: unknown): error is Error {
  return error instanceof Error && "severity" in error && /^[0-9A-Z]{5}$/.test(errorCode(error))
}

/**
 * The server takes no writes for now: disk or memory are used up, or it was made read-only, as hosts do before a disk is full,
 * or as a standby that answers under the primary's name. Nothing of what was asked for happened, and it passes.
 */
export function takesNoWrites(error: unknown): boolean {
  return ["53100", "53200", readOnly].includes(errorCode(error))
}

/** The SQLSTATE of a write where none is taken. */
export const readOnly = "25006"
