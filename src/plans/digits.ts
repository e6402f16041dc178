/** A decimal without the zeros that mean nothing; null when it is not one. */
export function plain(text: string): string | null {
  const found = /^(-?)0*(\d+?)(?:\.(\d*?)0*)?$/.exec(text.trim())
  if (!found) return null
  const digits = found[3] ? `${found[2]}.${found[3]}` : (found[2] ?? "")
  return digits === "0" ? "0" : `${found[1]}${digits}`
}

/** Whether a number as it is written means another than the double that it is read as. */
export function losesDigits(written: string, read: number): boolean {
  if (!Number.isFinite(read)) return /\d/.test(written)
  const [a, b] = [plain(written), plain(String(read))]
  return a !== null && b !== null ? a !== b : Number.isInteger(read) && !Number.isSafeInteger(read)
}
