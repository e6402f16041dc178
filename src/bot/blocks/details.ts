import type { KnownBlock, ModalView } from "@slack/types"

import type { Change, ComponentView, RollbackView, StepView } from "../../rollback/facts.ts"
import { cut, cutShort, oneLine } from "./escape.ts"
import { changeText } from "./changes.ts"
import { duration } from "./format.ts"
import { joined, type Line } from "./parts.ts"
import { codeBlocks, limits, plain, richLines } from "./render.ts"

/** Slack refuses views beyond 250 kB (`view_too_large`); a form that long is not read anyway. */
const viewBudget = 150_000
const longestScript = 30_000

const effects = {
  transactional: "changes rows, in one transaction with its record: done once or not at all",
  none: "only looks, changes nothing",
  keyed: "has an effect; repeated only with the same key",
  blind: "has an effect; never repeated by itself when its outcome is unknown",
} as const satisfies Record<StepView["effect"], string>

/** Everything that will run, as it will run. */
export function drawDetails(view: RollbackView): ModalView {
  const rest = richLines([["the rest: ", { code: `stepback plan show ${cut(oneLine(view.environment), 100)}` }]])
  const blocks: KnownBlock[] = []
  let size = 0
  for (const group of groupsOf(view)) {
    const length = JSON.stringify(group).length
    if (blocks.length + group.length > limits.modalBlocks - rest.length || size + length > viewBudget) {
      return modal(view, [...blocks, ...rest])
    }
    blocks.push(...group)
    size += length
  }
  return modal(view, blocks.length === 0 ? richLines([["There is nothing to run."]]) : blocks)
}

/** Blocks that stay together: a step is shown with its whole script or not at all. One after the other, as far as asked. */
function* groupsOf(view: RollbackView): Generator<KnownBlock[]> {
  const changes = new Map(view.rehearsal?.steps.map((seen) => [seen.stepId, seen.changes]))
  for (const component of view.components) {
    yield titleBlocks(component)
    for (const step of component.steps) yield stepBlocks(step, changes.get(step.id) ?? [])
  }
}

function titleBlocks(component: ComponentView): KnownBlock[] {
  const rto = component.rtoMs === null ? null : [`RTO ${duration(component.rtoMs)}`]
  return [
    { type: "header", text: plain(cutShort(oneLine(component.title) || "–", limits.header)) },
    ...richLines([joined([[`risk: ${component.risk}`], rto])]),
  ]
}

/** The changes stand on the card too, which is cut where it would be longer than Slack takes. */
function stepBlocks(step: StepView, changes: readonly Change[]): KnownBlock[] {
  const heading: Line[] = [
    [{ bold: cut(step.title, 300) }],
    [`${kinds[step.kind]} · ${effects[step.effect]}`],
    ...(step.irreversible === null ? [] : [["Cannot be undone: ", cut(step.irreversible, 500)]]),
  ]
  const bindings = step.bindings.slice(0, 50).map((binding): Line => [cut(binding, 500)])
  const more: Line[] =
    step.bindings.length > bindings.length ? [[`… and ${step.bindings.length - bindings.length} more`]] : []
  return [
    ...richLines(heading),
    ...codeBlocks(cut(step.script, longestScript)),
    ...richLines(bindings.length === 0 ? [] : [["with"], ...bindings, ...more]),
    ...changeBlocks(changes),
  ]
}

/** More of them would push the statements out. */
const mostChanges = 100

function changeBlocks(changes: readonly Change[]): KnownBlock[] {
  if (changes.length === 0) return []
  const shown = changes.slice(0, mostChanges).map((each): Line => ["• ", changeText(each)])
  const more: Line[] = changes.length > shown.length ? [[`… and ${changes.length - shown.length} more`]] : []
  return richLines([["changes"], ...shown, ...more])
}

const kinds = {
  sql: "SQL statement",
  check: "query",
  http: "HTTP request",
  command: "command, no shell",
  restore: "restore from the baseline",
  purge: "archive and remove rows",
  workflow: "CI workflow",
  manual: "done by a person",
  undo: "give back what was replaced",
} as const satisfies Record<StepView["kind"], string>

function modal(view: RollbackView, blocks: KnownBlock[]): ModalView {
  const title = view.number === null ? "Details" : `Details of R-${view.number}`
  return { type: "modal", title: plain(cutShort(title, 24)), close: plain("Close"), blocks }
}
