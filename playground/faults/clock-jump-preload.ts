/** Loaded before `src/main.ts` (`node --import`): at SIGUSR2 the clock of this process is put back by an hour. */
const TrueDate = Date
let offMs = 0
process.on("SIGUSR2", () => (offMs = -3_600_000))

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
