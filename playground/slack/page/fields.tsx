import { createContext, useContext, useId } from "react"
import type { ReactNode } from "react"
import { NamesContext, Text } from "./markup.tsx"
import type { Block, BlockElement } from "./snapshot.ts"

export const ErrorsContext = createContext<Record<string, string>>({})

const words = (of: unknown): string => (of as { text?: string } | undefined)?.text ?? ""
const inputTypes: Record<string, string> = {
  email_text_input: "email",
  url_text_input: "url",
  number_input: "number",
  datepicker: "date",
  timepicker: "time",
}

/** An input block; its control is named by the block's id, by which the form is read. */
export function Field({ of }: { of: Block }): ReactNode {
  const id = useId()
  const errors = useContext(ErrorsContext)
  const error = errors[of.block_id ?? ""]
  const element = of["element"] as BlockElement
  return (
    <div className="block field">
      <label htmlFor={id}>
        {words(of["label"])} {of["optional"] === true ? <span className="quiet">(optional)</span> : null}
      </label>
      <Control
        id={id}
        name={of.block_id ?? ""}
        element={element}
        required={of["optional"] !== true}
        invalid={Boolean(error)}
      />
      {error ? (
        <div className="error" role="alert">
          {error}
        </div>
      ) : null}
      {of["hint"] ? (
        <div className="quiet">
          <Text of={of["hint"]} />
        </div>
      ) : null}
    </div>
  )
}

type ControlProps = { id: string; name: string; element: BlockElement; required: boolean; invalid: boolean }

function Control({ id, name, element, required, invalid }: ControlProps): ReactNode {
  const type = String(element["type"])
  const typed = {
    id,
    name,
    required,
    "aria-invalid": invalid,
    placeholder: words(element["placeholder"]),
    defaultValue: String(element["initial_value"] ?? element["initial_date"] ?? element["initial_time"] ?? ""),
  }
  const limits = { minLength: Number(element["min_length"] ?? 0), maxLength: Number(element["max_length"] ?? 3000) }
  if (type === "plain_text_input" && element["multiline"] === true) return <textarea rows={4} {...typed} {...limits} />
  if (type === "plain_text_input") return <input type="text" {...typed} {...limits} />
  if (inputTypes[type]) return <input type={inputTypes[type]} {...typed} />
  if (type === "checkboxes" || type === "radio_buttons")
    return <Choices {...{ id, name, element, required, invalid }} />
  return <Select {...{ id, name, element, required, invalid }} />
}

const valueOf = (option: unknown): string => String((option as BlockElement | undefined)?.["value"] ?? "")

function Choices({ name, element }: ControlProps): ReactNode {
  const several = element["type"] === "checkboxes"
  const chosen = ((several ? element["initial_options"] : [element["initial_option"]]) ?? []) as unknown[]
  return ((element["options"] ?? []) as BlockElement[]).map((option) => (
    <label key={valueOf(option)} className="choice">
      <input
        type={several ? "checkbox" : "radio"}
        name={name}
        value={valueOf(option)}
        defaultChecked={chosen.some((one) => valueOf(one) === valueOf(option))}
      />
      <Text of={option["text"]} />
    </label>
  ))
}

function Select({ id, name, element, required }: ControlProps): ReactNode {
  const names = useContext(NamesContext)
  const type = String(element["type"])
  const groups = (element["option_groups"] ?? []) as { options: BlockElement[] }[]
  const own = [...((element["options"] ?? []) as BlockElement[]), ...groups.flatMap((group) => group.options)].map(
    (option) => ({ value: valueOf(option), label: words(option["text"]) }),
  )
  const people = names.users.filter((user) => !user.deleted).map((user) => ({ value: user.id, label: user.name }))
  const places = names.channels.map((channel) => ({ value: channel.id, label: `#${channel.name}` }))
  const options = type.includes("users") ? people : /channels|conversations/.test(type) ? places : own
  const initial =
    valueOf(element["initial_option"]) || String(element["initial_user"] ?? element["initial_channel"] ?? "")
  return (
    <select
      id={id}
      name={name}
      required={required}
      multiple={type.startsWith("multi_")}
      defaultValue={type.startsWith("multi_") ? [] : initial}
    >
      {type.startsWith("multi_") ? null : <option value="">{words(element["placeholder"]) || "Choose"}</option>}
      {options.map((option) => (
        <option key={option.value} value={option.value}>
          {option.label}
        </option>
      ))}
    </select>
  )
}
