/** `engine-is-good` -> "Engine is good" */
export function toTitle(id: string): string {
  const words = id.replaceAll(/-+/g, " ").trim()
  return words === "" ? id : words.charAt(0).toUpperCase() + words.slice(1)
}
