import { useState } from "react"
import type { ReactNode } from "react"
import { Field } from "./fields.tsx"
import { Press } from "./press.tsx"
import { Markup, Text } from "./markup.tsx"
import { RichText } from "./rich-text.tsx"
import type { Block, BlockElement, Place } from "./snapshot.ts"
import { Plan, Table, Task } from "./task-list.tsx"

type Props = { of: Block; place: Place }
const list = (block: Block, key: string): BlockElement[] => (block[key] ?? []) as BlockElement[]

export function Blocks({ blocks, place }: { blocks: Block[]; place: Place }): ReactNode {
  return blocks.map((block, index) => <OneBlock key={block.block_id ?? index} of={block} place={place} />)
}

const kinds: Record<string, (props: Props) => ReactNode> = {
  section: Section,
  header: ({ of }) => (
    <h3 className="block header">
      <Text of={of["text"]} />
    </h3>
  ),
  divider: () => <hr className="block" />,
  context: ({ of }) => (
    <div className="block context">
      {list(of, "elements").map((element, index) => (
        <ContextElement key={index} of={element} />
      ))}
    </div>
  ),
  actions: Actions,
  context_actions: Actions,
  rich_text: ({ of }) => (
    <div className="block">
      <RichText of={of} />
    </div>
  ),
  plan: Plan,
  task_card: Task,
  table: Table,
  data_table: Table,
  container: Container,
  image: ({ of }) => <Picture of={of} />,
  alert: ({ of }) => (
    <div className={`block alert ${String(of["level"] ?? "default")}`} role="note">
      <Text of={of["text"]} />
    </div>
  ),
  input: Field,
  markdown: ({ of }) => (
    <div className="block">
      <Markup text={String(of["text"]).replace(/\*\*(.+?)\*\*/g, "*$1*")} />
    </div>
  ),
  card: Card,
  carousel: ({ of, place }) => (
    <div className="block carousel">
      {list(of, "elements").map((card, index) => (
        <Card key={index} of={card as Block} place={place} />
      ))}
    </div>
  ),
}

function OneBlock({ of, place }: Props): ReactNode {
  const Kind = kinds[of.type]
  return Kind ? <Kind of={of} place={place} /> : <div className="block">(a block of type {of.type})</div>
}

function Actions({ of, place }: Props): ReactNode {
  return (
    <div className="block actions">
      {list(of, "elements").map((element, index) => (
        <Press key={index} element={element} place={place} />
      ))}
    </div>
  )
}

function Section({ of, place }: Props): ReactNode {
  const accessory = of["accessory"] as BlockElement | undefined
  const fields = list(of, "fields")
  return (
    <div className="block section">
      <div className="grow">
        {of["text"] ? <Text of={of["text"]} /> : null}
        {fields.length > 0 ? (
          <div className="fields">
            {fields.map((field, index) => (
              <div key={index}>
                <Text of={field} />
              </div>
            ))}
          </div>
        ) : null}
      </div>
      {accessory ? (
        accessory["type"] === "image" ? (
          <Picture of={accessory as Block} small />
        ) : (
          <Press element={accessory} place={place} />
        )
      ) : null}
    </div>
  )
}

function ContextElement({ of }: { of: BlockElement }): ReactNode {
  return of["type"] === "image" ? (
    <img className="context-image" src={String(of["image_url"])} alt={String(of["alt_text"])} />
  ) : (
    <Text of={of} />
  )
}

function Picture({ of, small = false }: { of: Block; small?: boolean }): ReactNode {
  return (
    <figure className={small ? "picture small" : "block picture"}>
      {of["title"] ? (
        <figcaption>
          <Text of={of["title"]} />
        </figcaption>
      ) : null}
      <img src={String(of["image_url"] ?? "")} alt={String(of["alt_text"])} />
    </figure>
  )
}

function Container({ of, place }: Props): ReactNode {
  const foldable = of["is_collapsible"] === true
  const [open, setOpen] = useState(!(foldable && of["default_collapsed"] === true))
  const title = of["rich_text_title"] ? <RichText of={of["rich_text_title"]} /> : <Text of={of["title"]} />
  return (
    <section className="block container">
      {foldable ? (
        <button type="button" className="fold" aria-expanded={open} onClick={() => setOpen(!open)}>
          <span className={open ? "caret open" : "caret"} aria-hidden="true">
            ▸
          </span>{" "}
          {title}
        </button>
      ) : (
        <header>{title}</header>
      )}
      {of["subtitle"] ? (
        <div className="quiet">
          <Text of={of["subtitle"]} />
        </div>
      ) : null}
      {open ? (
        <div className="inside">
          <Blocks blocks={list(of, "child_blocks") as Block[]} place={place} />
        </div>
      ) : null}
    </section>
  )
}

function Card({ of, place }: Props): ReactNode {
  return (
    <section className="block container">
      <b>
        <Text of={of["title"]} />
      </b>
      <div className="quiet">
        <Text of={of["subtitle"]} />
      </div>
      <Text of={of["body"]} />
      <div className="actions">
        {list(of, "actions").map((element, index) => (
          <Press key={index} element={element} place={place} />
        ))}
      </div>
    </section>
  )
}
