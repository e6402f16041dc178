/** Loaded before `src/main.ts` (`node --import`): this process has a clock that is off by STORM_CLOCK_MS. */
const offMs = Number(process.env["STORM_CLOCK_MS"] ?? 0)
const TrueDate = Date

class OtherDate extends TrueDate {
  constructor(...parts: [] | [string | number | Date]) {
    if (parts.length === 0) super(TrueDate.now() + offMs)
    else super(...parts)
  }

  static override now(): number {
    return TrueDate.now() + offMs
  }
}

globalThis.Date = OtherDate as DateConstructor
