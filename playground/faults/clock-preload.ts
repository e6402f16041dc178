/** Loaded before `src/main.ts` (`node --import`): its clock is off by CLOCK_OFF_MS; at SIGUSR2 it is put back by an hour. */
let offMs = Number(process.env["CLOCK_OFF_MS"] ?? 0)
const TrueDate = Date
process.on("SIGUSR2", () => (offMs -= 3_600_000))

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
