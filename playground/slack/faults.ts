export type FaultKind = "429" | "500" | "hang" | "slow" | "drop_before_accept" | "drop_after_accept" | "error"

export type Fault = {
  /** All methods when absent. */
  methods?: string[]
  kind: FaultKind
  /** Seconds, for 429. */
  retryAfter?: number
  /** For `slow`. */
  ms?: number
  /** For `error`. */
  error?: string
  /** How often; until cleared when absent. */
  times?: number
}

/** What is wrong with Slack today. */
export class Faults {
  private list: Fault[] = []

  set(...faults: Fault[]): void {
    this.list.push(...faults.map((fault) => ({ ...fault })))
  }

  clear(): void {
    this.list = []
  }

  /** The fault that this call meets, counted as met. */
  take(method: string): Fault | undefined {
    const fault = this.list.find((candidate) => !candidate.methods || candidate.methods.includes(method))
    if (fault?.times !== undefined && --fault.times <= 0) this.list.splice(this.list.indexOf(fault), 1)
    return fault
  }
}
