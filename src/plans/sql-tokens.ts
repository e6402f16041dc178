const letter = String.raw`[A-Za-z_\u0080-\uffff]`
const word = String.raw`${letter}[\w\u0080-\uffff]*`
const escaped = String.raw`'(?:\\[^]|''|[^'\\])*'`

/** Everything in which a `$1` is no parameter, and parameters. A word may have dollars in it: `a$1`, `a$$`. */
const tokens = [
  // Its second line, when it has one, has the first one's escapes.
  String.raw`[eE]${escaped}(?:\s*\n\s*${escaped})*`,
  String.raw`(?:'[^']*')+`,
  String.raw`(?:"[^"]*")+`,
  String.raw`\$(?<tag>${word})?\$[^]*?\$\k<tag>\$`,
  String.raw`--[^\r\n]*`,
  String.raw`\/\*`,
  String.raw`${letter}[\w$\u0080-\uffff]*`,
  String.raw`\$(?<number>\d+)`,
].join("|")

/** Writes a statement's parameters anew. A `$1` in a string, a quoted name or a comment is none. */
export function replaceParameters(sql: string, written: (number: number) => string): string {
  const token = new RegExp(tokens, "g")
  let text = ""
  let from = 0
  for (let found = token.exec(sql); found !== null; found = token.exec(sql)) {
    const number = found.groups?.["number"]
    if (found[0] === "/*") token.lastIndex = endOfComment(sql, token.lastIndex)
    if (number === undefined) continue
    text += sql.slice(from, found.index) + written(Number(number))
    from = token.lastIndex
  }
  return text + sql.slice(from)
}

/** Comments nest, which no regular expression can follow. */
function endOfComment(sql: string, from: number): number {
  const edge = /\/\*|\*\//g
  edge.lastIndex = from
  for (let depth = 1; depth > 0;) {
    const found = edge.exec(sql)
    if (found === null) return sql.length
    depth += found[0] === "/*" ? 1 : -1
  }
  return edge.lastIndex
}
