import type { ReactNode } from "react"
import { RichText } from "./rich-text.tsx"
import type { Block, BlockElement } from "./snapshot.ts"

const list = (block: Block, key: string): BlockElement[] => (block[key] ?? []) as BlockElement[]

const marks: Record<string, { sign: string; words: string }> = {
  pending: { sign: "○", words: "not started" },
  in_progress: { sign: "", words: "in progress" },
  complete: { sign: "✓", words: "complete" },
  error: { sign: "✕", words: "failed" },
}

export function Plan({ of }: { of: Block }): ReactNode {
  const tasks = list(of, "tasks") as Block[]
  const done = tasks.filter((task) => task["status"] === "complete").length
  return (
    <section className="block plan" aria-label={String(of["title"])}>
      <header>
        <b>{String(of["title"])}</b>
        <span className="quiet">
          {done} of {tasks.length}
        </span>
      </header>
      {tasks.map((task, index) => (
        <Task key={index} of={task} inPlan />
      ))}
    </section>
  )
}

export function Task({ of, inPlan = false }: { of: Block; inPlan?: boolean }): ReactNode {
  const status = String(of["status"])
  const mark = marks[status] ?? { sign: "?", words: status }
  const sources = list(of, "sources")
  return (
    <div className={`task ${status} ${inPlan ? "" : "block alone"}`}>
      <span className="mark" role="img" aria-label={mark.words}>
        {mark.sign}
      </span>
      <div className="grow">
        <div className="title">{String(of["title"])}</div>
        {of["details"] ? <RichText of={of["details"]} /> : null}
        {of["output"] ? <RichText of={of["output"]} /> : null}
        {sources.map((source, index) => (
          <a key={index} href={String(source["url"])} target="_blank" rel="noreferrer">
            {String(source["text"])}
          </a>
        ))}
      </div>
    </div>
  )
}

export function Table({ of }: { of: Block }): ReactNode {
  const [head = [], ...rows] = of["rows"] as BlockElement[][]
  const settings = (of["column_settings"] ?? []) as { align?: "left" | "center" | "right"; is_wrapped?: boolean }[]
  const style = (column: number) => ({
    textAlign: settings[column]?.align ?? ("left" as const),
    whiteSpace: settings[column]?.is_wrapped ? ("normal" as const) : ("nowrap" as const),
  })
  const cell = (of: BlockElement): ReactNode => (of["type"] === "rich_text" ? <RichText of={of} /> : String(of["text"]))
  return (
    <div className="block table">
      <table>
        {of["caption"] ? <caption>{String(of["caption"])}</caption> : null}
        <thead>
          <tr>
            {head.map((of, index) => (
              <th key={index} style={style(index)}>
                {cell(of)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, at) => (
            <tr key={at}>
              {row.map((of, index) => (
                <td key={index} style={style(index)}>
                  {cell(of)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
