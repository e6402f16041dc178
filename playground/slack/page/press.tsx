import { createContext, useContext, useState } from "react"
import type { ReactNode } from "react"
import { Dialog } from "./dialog.tsx"
import { Text } from "./markup.tsx"
import type { BlockElement, OnPress, Place } from "./snapshot.ts"

export const PressContext = createContext<OnPress>(() => Promise.reject(new Error("nothing to press here")))

const words = (of: unknown): string => (of as { text?: string } | undefined)?.text ?? ""

/** A button or menu of a message: busy until the app has acknowledged, as in Slack. */
export function Press({ element, place }: { element: BlockElement; place: Place }): ReactNode {
  const press = useContext(PressContext)
  const [busy, setBusy] = useState(false)
  const [asking, setAsking] = useState<{ option?: string } | null>(null)
  const act = async (option?: string): Promise<void> => {
    setAsking(null)
    setBusy(true)
    await press(place, element, option)
    setBusy(false)
  }
  const start = (option?: string): void => {
    if (element["confirm"]) setAsking(option === undefined ? {} : { option })
    else void act(option)
  }
  const isButton = String(element["type"]).endsWith("button")
  return (
    <>
      {isButton ? (
        <PressButton element={element} busy={busy} onPress={() => start()} />
      ) : (
        <Menu element={element} busy={busy} onChoose={start} />
      )}
      {asking ? (
        <Confirm
          of={element["confirm"] as BlockElement}
          onYes={() => void act(asking.option)}
          onNo={() => setAsking(null)}
        />
      ) : null}
    </>
  )
}

function PressButton({
  element,
  busy,
  onPress,
}: {
  element: BlockElement
  busy: boolean
  onPress: () => void
}): ReactNode {
  const url = element["url"]
  return (
    <button
      type="button"
      className={`press ${String(element["style"] ?? "")}`}
      aria-label={element["accessibility_label"] ? String(element["accessibility_label"]) : undefined}
      aria-busy={busy}
      disabled={busy}
      onClick={() => {
        if (typeof url === "string") window.open(url, "_blank", "noreferrer")
        onPress()
      }}
    >
      <Text of={element["text"]} />
    </button>
  )
}

function Menu({
  element,
  busy,
  onChoose,
}: {
  element: BlockElement
  busy: boolean
  onChoose: (option: string) => void
}): ReactNode {
  const groups = (element["option_groups"] ?? []) as { options: BlockElement[] }[]
  const options = [...((element["options"] ?? []) as BlockElement[]), ...groups.flatMap((group) => group.options)]
  const label = element["type"] === "overflow" ? "More" : words(element["placeholder"]) || "Choose"
  return (
    <select
      className={`press menu ${String(element["type"])}`}
      aria-label={label}
      disabled={busy}
      value=""
      onChange={(event) => onChoose(event.target.value)}
    >
      <option value="" disabled hidden>
        {element["type"] === "overflow" ? "⋯" : label}
      </option>
      {options.map((option) => (
        <option key={String(option["value"])} value={String(option["value"])}>
          {words(option["text"])}
        </option>
      ))}
    </select>
  )
}

function Confirm({ of, onYes, onNo }: { of: BlockElement; onYes: () => void; onNo: () => void }): ReactNode {
  return (
    <Dialog title={words(of["title"]) || "Are you sure?"} onClose={onNo}>
      <div className="dialog-body">
        <Text of={of["text"]} />
      </div>
      <footer>
        <button type="button" className="press" onClick={onNo}>
          {words(of["deny"]) || "Cancel"}
        </button>
        <button type="button" className={`press ${String(of["style"] ?? "primary")}`} onClick={onYes}>
          {words(of["confirm"]) || "Yes"}
        </button>
      </footer>
    </Dialog>
  )
}
